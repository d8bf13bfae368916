"""Every attack of a config as a function of a prompt.

All of these are pure: the same settings, seed and prompt give the same conversation, whatever the model says to it; of
a model one of them reads the tokenizer, where its length is in tokens.
What looks at answers or at p' and tries again is a loop, and none of them.
"""

import random
from collections.abc import Callable
from functools import partial
from typing import Protocol

from presafe.attacks.attacked import Attacked
from presafe.attacks.forged import forged_block, forged_reasoning, prefill
from presafe.attacks.sentences import TokenCount, benign_sentence, long_thought, padding, system_prompt
from presafe.attacks.spelling import encoding, homoglyphs
from presafe.attacks.templates import inside_template, templates_of
from presafe.attacks.turns import go_on, script, word_by_word
from presafe.config.attacks import (
    Attack,
    BenignSentence,
    Encoding,
    ForgedBlock,
    ForgedReasoning,
    GoOn,
    Homoglyphs,
    LongThought,
    Padding,
    PrefillAttack,
    Script,
    SystemPrompt,
    TemplateAttack,
    WordByWord,
)
from presafe.conversation import Conversation


class Named(Conversation, Protocol):
    """A conversation with the id of its prompt."""

    @property
    def prompt_id(self) -> str: ...


def under(attack: Attack, seed: int, tokens: TokenCount | None = None) -> Callable[[Named], Attacked]:
    """What the attack makes of a prompt; it draws by `seed`, its own name and the prompt's id.

    `tokens` is needed where its length is in tokens. Raises UserError where it lacks what it works with.
    """
    transform = _transform(attack, seed, tokens)
    return lambda asked: transform(asked, random.Random(f"{seed}/{attack.name}/{asked.prompt_id}"))


def _transform(
    attack: Attack, seed: int, tokens: TokenCount | None
) -> Callable[[Conversation, random.Random], Attacked]:
    match attack:
        case TemplateAttack():
            return partial(inside_template, attack, templates_of(attack, seed))
        case BenignSentence():
            return partial(benign_sentence, attack)
        case SystemPrompt():
            return partial(system_prompt, attack)
        case LongThought():
            return partial(long_thought, attack)
        case Padding():
            return partial(padding, attack, tokens)
        case Homoglyphs():
            return partial(homoglyphs, attack)
        case GoOn():
            return lambda asked, _: go_on(attack, asked)
        case WordByWord():
            return lambda asked, _: word_by_word(attack, asked)
        case Script():
            return lambda asked, _: script(attack, asked)
        case Encoding():
            return lambda asked, _: encoding(attack, asked)
        case ForgedBlock():
            return lambda asked, _: forged_block(attack, asked)
        case ForgedReasoning():
            return lambda asked, _: forged_reasoning(attack, asked)
        case PrefillAttack():
            return lambda asked, _: prefill(attack, asked)
