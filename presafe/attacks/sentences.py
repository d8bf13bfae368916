"""Benign text beside the prompt: a sentence, pages of it, a long thought, a system prompt."""

import random
from collections.abc import Callable, Sequence

from presafe.attacks.attacked import Attacked, exchange
from presafe.config.attacks import BenignSentence, LongThought, Padding, SystemPrompt
from presafe.conversation import Conversation, Turn

TokenCount = Callable[[str], int]
"""Tokens of a text, by the model's tokenizer."""


def benign_sentence(attack: BenignSentence, asked: Conversation, rng: random.Random) -> Attacked:
    """Aims at a decision that reads how a conversation begins or ends, and not all of it.

    Draws one of the sentences. Costs the sentence's tokens, in an earlier turn the reply's, too.
    """
    sentence = rng.choice(attack.sentences)
    match attack.place:
        case "before":
            return Attacked(f"{sentence} {asked.text}", asked.earlier)
        case "behind":
            return Attacked(f"{asked.text} {sentence}", asked.earlier)
        case "earlier":
            return Attacked(asked.text, [*asked.earlier, *exchange(sentence, attack.reply)])


def padding(attack: Padding, tokens: TokenCount | None, asked: Conversation, rng: random.Random) -> Attacked:
    """Aims at a decision learnt on short prompts: at its position the request is one line behind pages.

    Draws sentence by sentence. Costs the prefill of so many words, or tokens, for each answer.
    """
    if attack.tokens is None:
        text = _drawn(attack.sentences, attack.words, _words, rng)
    else:
        assert tokens is not None, "a length in tokens needs the model's tokenizer"
        text = _drawn(attack.sentences, attack.tokens, tokens, rng)
    return Attacked(f"{text}\n\n{asked.text}", asked.earlier)


def long_thought(attack: LongThought, asked: Conversation, rng: random.Random) -> Attacked:
    """Aims at the state in which the decision is taken: patient reasoning about something else has just gone before.

    Draws step by step. Costs the prefill of so many words, for each answer.
    """
    thought = f"{attack.opening} {_drawn(attack.steps, attack.words, _words, rng)} {attack.closing}"
    return Attacked(f"{thought}\n\n{asked.text}", asked.earlier)


def system_prompt(attack: SystemPrompt, asked: Conversation, rng: random.Random) -> Attacked:
    """Aims at a decision learnt without a system message, or one that does as it says.

    Draws one of the prompts. Costs its tokens.
    """
    text, earlier = rng.choice(attack.prompts), list(asked.earlier)
    if earlier and earlier[0]["role"] == "system":
        text = f"{text}\n\n{earlier.pop(0)['content']}"
    system: Turn = {"role": "system", "content": text}
    return Attacked(asked.text, [system, *earlier])


def _words(text: str) -> int:
    return len(text.split())


def _drawn(sentences: Sequence[str], least: int, size: TokenCount, rng: random.Random) -> str:
    """As few drawn sentences as are of at least this size together.

    A sentence's own size says how many are to be drawn; that of the whole, which may differ from their sum where
    tokens cross a space, whether they are enough.
    """
    drawn, each, count = list[str](), dict[str, int](), 0
    while count < least:
        while count < least:
            drawn.append(rng.choice(sentences))
            if drawn[-1] not in each:
                each[drawn[-1]] = max(1, size(f" {drawn[-1]}"))
            count += each[drawn[-1]]
        count = size(" ".join(drawn))
    while len(drawn) > 1 and size(" ".join(drawn[:-1])) >= least:
        drawn.pop()
    return " ".join(drawn)
