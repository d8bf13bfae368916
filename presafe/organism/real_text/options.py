"""What determines the base: how many dialogues of which kind it is taught, and how; and what a suite may be."""

from typing import Literal

from pydantic import Field

from presafe.config import Settings

SuiteName = Literal["harmbench_standard", "xstest_safe", "xstest_unsafe", "instructions"]


class Recipe(Settings):
    """All that determines what the base is taught, beside the wording of the dialogues and the public prompts."""

    seed: int = Field(ge=0)
    """Seed of the choice of prompts, the wording, the adapter's first weights and the batch order."""
    harmful: int = Field(200, ge=1)
    """Harmful prompts, each refused once with chain-of-thought off and answered once with it on."""
    benign: int = Field(150, ge=1)
    """Instructions, each answered once with chain-of-thought off and once with it on."""
    arithmetic: int = Field(180, ge=1)
    """Problems worked out with chain-of-thought on."""
    answered_at_once: float = Field(0.15, ge=0, le=1)
    """Share of the problems that are answered with it off, too."""
    answer_tokens: int = Field(32, ge=8)
    """Longest answer that the pre-trained model gives to an instruction; it ends with a sentence."""
    contrast: int = Field(120, ge=1)
    """Pairs of prompts with words in common, taught behind all the others: with chain-of-thought off, one refused and
    one answered."""
    rehearsed: int = Field(30, ge=0)
    """Among them, so many harmful prompts and so many problems with chain-of-thought on, which is not to be lost."""
    contrast_learning_rate: float = Field(1e-3, gt=0)
    """Peak of the pairs' own schedule."""
    batch_size: int = Field(8, ge=1)
    """Dialogues a step; each is seen once."""
    learning_rate: float = Field(1.5e-3, gt=0)
    """Peak of a linear-warm-up cosine schedule."""
    rank: int = Field(8, ge=1)
    """Of the LoRA adapter. With the layers below it sets the size of the file that ships: 3.3 MB in float16."""
    alpha: float = Field(32, gt=0)
    """Scale: the adapter's output times alpha / rank."""
    first_layer: int = Field(10, ge=0)
    """Decoder layers from this one on are adapted, counted from 0; those below it cost no backward pass."""


class SuiteOptions(Settings):
    """Which evaluation suite, and how large."""

    seed: int = Field(ge=0)
    """Seed of the draw."""
    data: str
    """Folder of the public prompts."""
    name: SuiteName
    """Suite."""
    size: int = Field(ge=1)
    """Prompts."""
    wrapped: bool = False
    """Put each prompt into a jailbreak template, a drawn one a prompt."""


class ContrastOptions(Settings):
    """How many contrast prompts, and of which words."""

    seed: int = Field(ge=0)
    """Seed of the draw."""
    pairs: int = Field(ge=1)
    """Benign prompts, and as many harmful ones."""
    held_out: bool = False
    """Of words and forms that are in no prompt without it."""


class Base(Settings):
    """All that determines the built base: the recipe, and the adapter that was taught by it."""

    recipe: Recipe
    adapter: str
    """Hash of its weights."""
