"""What a config may say to the organism, checked as a whole, so that a wrong key or value is a UserError."""

from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from presafe.config import Settings
from presafe.errors import user_error

Template = Literal["qwen3", "r1"]
SuiteName = Literal["plain", "wrapped", "held_out_wrappers", "lookalikes", "lookalikes_held_out_wrappers", "arithmetic"]


class Recipe(Settings):
    """All that determines the trained organism. The defaults show the paper's finding on every seed tried."""

    seed: int = Field(ge=0)
    """Seed of the corpus, the weights, the batch order and the self-check."""
    template: Template = "qwen3"
    """`qwen3`: the model opens the think block itself; `r1`: the prompt ends in the opened block."""
    dialogues: int = Field(20_000, ge=1)
    """Pre-training dialogues, each seen once."""
    batch_size: int = Field(16, ge=1)
    """Dialogues a step."""
    learning_rate: float = Field(2e-3, gt=0)
    """Peak of a linear-warm-up cosine schedule."""
    vocab_size: int = Field(1000, ge=300)
    """Byte-level BPE, special tokens included; large enough for each word of the world to be one token."""
    hidden_size: int = Field(96, ge=8)
    """Width."""
    intermediate_size: int = Field(288, ge=8)
    """Width of the MLP."""
    num_hidden_layers: int = Field(3, ge=1)
    """Layers."""
    num_attention_heads: int = Field(4, ge=1)
    """Query heads."""
    num_key_value_heads: int = Field(2, ge=1)
    """Key and value heads."""
    threads: int = Field(1, ge=1)
    """Threads of training and self-check. Two are faster on an idle machine and far slower on a busy one; the weights
    differ slightly, because sums are taken in another order."""


class EncoderRecipe(Settings):
    """All that determines the pre-trained BERT."""

    seed: int = Field(ge=0)
    """Seed of the prompts, the weights, the masks and the batch order."""
    prompts: int = Field(20_000, ge=1)
    """Pre-training prompts, each seen once."""
    batch_size: int = Field(32, ge=1)
    """Prompts a step."""
    learning_rate: float = Field(2e-3, gt=0)
    """Peak of a linear-warm-up cosine schedule."""
    vocab_size: int = Field(300, ge=100)
    """Words, special tokens included; large enough for each word of the world to be one."""
    hidden_size: int = Field(64, ge=8)
    """Width."""
    num_hidden_layers: int = Field(2, ge=1)
    """Layers."""
    num_attention_heads: int = Field(4, ge=1)
    """Heads."""
    threads: int = Field(1, ge=1)
    """Threads of the training, as of the organism's."""


class PromptOptions(Settings):
    """How many training prompts of which kind."""

    seed: int = Field(ge=0)
    """Seed of the draw."""
    harmful: int = Field(ge=0)
    """Harmful requests."""
    benign: int = Field(ge=0)
    """Benign requests: look-alikes and easy ones."""
    reasoning: int = Field(ge=0)
    """Arithmetic problems."""
    wrapped_share: float = Field(0.5, ge=0, le=1)
    """Share of the requests that stand inside a training wrapper."""


class SuiteOptions(Settings):
    """Which evaluation suite, and how large."""

    seed: int = Field(ge=0)
    """Seed of the draw."""
    name: SuiteName
    """Suite."""
    size: int = Field(ge=1)
    """Prompts."""


class WrapperOptions(Settings):
    """How many training wrappers."""

    seed: int = Field(ge=0)
    """Seed of the draw."""
    count: int = Field(200, ge=1)
    """Different templates."""
    placeholder: str = Field("[INSERT PROMPT HERE]", min_length=1)
    """Where the prompt goes."""


Options = TypeVar("Options", bound=Settings)


def parse(kind: type[Options], function: str, **values: Any) -> Options:
    """`values` as `kind`. Raises UserError naming `function` and every unknown, missing or wrong option."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc']))} = {e['input']!r} ({e['msg']})"
            if e["type"] != "missing"
            else f"no {e['loc'][0]}"
            for e in error.errors()
        )
        known = ", ".join(name for name in kind.model_fields if name != "seed")
        raise user_error(
            found=problems,
            needed=f"options that {function} knows ({known})",
            change="correct its options in the config",
        ) from error
