"""A tokenizer, proven where it is loaded: that it writes what it reads, and that the model has rows for its ids."""

import transformers
from transformers import PreTrainedTokenizerBase

from presafe.errors import UserError, user_error
from presafe.thinking import ThinkFormat

PROBE = (
    "Add two words,  12 + 3.50 = 15.5?\n\tdef f(x):\n        return x[0]  # {'a': 1}\n"
    "\u041f\u0440\u0438\u0432\u0435\u0442. \u4f60\u597d\u3002\n"
)
"""Spaces, digits, code, Cyrillic and Chinese."""


def reads_back(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a text comes back from its ids as it was, but for white space at its ends."""
    return _back(tokenizer).strip() == PROBE.strip()


def check_round_trip(tokenizer: PreTrainedTokenizerBase, folder: str) -> None:
    """Raise UserError unless it reads a text back, with what became of it."""
    if reads_back(tokenizer):
        return
    back = _back(tokenizer)
    place = next((k for k, (a, b) in enumerate(zip(PROBE, back, strict=False)) if a != b), 0)
    raise _error(
        f"a tokenizer that reads {PROBE[place : place + 20]!r} back as {back[place : place + 20]!r} in transformers "
        f"{transformers.__version__}",
        folder,
        "install a transformers that pyproject.toml allows, or mend tokenizer_class in tokenizer_config.json",
    )


def check_ids(think: ThinkFormat, rows: int | None, folder: str) -> None:
    """Raise UserError where ids lie outside the model's `rows` embeddings, none pads, or a prompt begins twice."""
    tokenizer = think.tokenizer
    largest = max(tokenizer.get_vocab().values())
    if rows is not None and largest >= rows:
        raise _error(f"token ids up to {largest} for a model of {rows} embeddings", folder, "take the model's own")
    if tokenizer.pad_token_id is None:
        raise _error("a tokenizer with neither pad_token nor eos_token", folder, "name one in tokenizer_config.json")
    bos = tokenizer.bos_token_id
    prompt = think.prompt_ids([{"role": "user", "content": "x"}])
    if bos is not None and bos != think.end_id and prompt.count(bos) > 1:
        raise _error(f"a chat template that begins {prompt.count(bos)} times", folder, "mend its bos_token")


def _back(tokenizer: PreTrainedTokenizerBase) -> str:
    ids = tokenizer(PROBE, add_special_tokens=False)["input_ids"]
    text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text


def _error(found: str, folder: str, change: str) -> UserError:
    return user_error(found=f"{found} ({folder})", needed="a tokenizer that fits its model", change=change)
