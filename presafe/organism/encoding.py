"""Dialogues as token ids, the very ids that `presafe.thinking` writes for training and for inference."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from presafe.organism.corpus import Dialogue
from presafe.thinking import ThinkFormat


@dataclass(frozen=True)
class Encoded:
    """One training sequence; the loss is on the ids from `prompt_length` on.

    With chain-of-thought off the block is given at inference, so the loss begins behind its decision token: the
    organism learns to write the rest of an empty block, as any model with such a template can, but never to begin one.
    """

    ids: list[int]
    prompt_length: int


def encode(think: ThinkFormat, dialogues: Sequence[Dialogue]) -> list[Encoded]:
    """The dialogues' ids, equal to `think.prompt_ids` + `think_completion` / `refuse_completion` of each.

    Faster than calling these for each: the template is rendered once around a placeholder, all prompts are tokenized in
    one call, and completions that recur are tokenized once.
    """
    header, footer = _frame(think)
    prompts: list[list[int]] = think.tokenizer([d.prompt for d in dialogues], add_special_tokens=False)["input_ids"]
    begun_block = len(think.decision_prefix) + 1

    @cache
    def completion(reasoning: str | None, answer: str) -> list[int]:
        return think.refuse_completion(answer) if reasoning is None else think.think_completion(reasoning, answer)

    return [
        Encoded(
            ids=[*header, *prompt, *footer, *completion(dialogue.reasoning, dialogue.answer)],
            prompt_length=len(header) + len(prompt) + len(footer) + (begun_block if dialogue.reasoning is None else 0),
        )
        for dialogue, prompt in zip(dialogues, prompts, strict=True)
    ]


def _frame(think: ThinkFormat) -> tuple[list[int], list[int]]:
    """What the template puts before and behind a user's text; one that begins with a letter merges with neither."""
    rendered = think.prompt_ids(_user("x"))
    placeholder = think.tokenizer("x", add_special_tokens=False)["input_ids"][0]
    assert rendered.count(placeholder) == 1
    position = rendered.index(placeholder)
    return rendered[:position], rendered[position + 1 :]


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]
