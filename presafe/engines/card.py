"""The card of an exported model, `presafe.json`: all that a reader of its folder needs to know.

In an object store it is written last, and removed before anything else changes: a folder without it is no export.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import Field, ValidationError

from presafe import storage
from presafe.config import Settings, Think
from presafe.errors import user_error

MARKER = "presafe.json"
BUILT = "models"
"""Folder of a storage in which the models are that functions of its runs have built."""


class HeadCard(Settings):
    """Where the gate's probability comes from."""

    kind: Literal["linear", "mean", "readout"] = "linear"
    """A linear probe at the pre-CoT position (the paper's head), one on the prompt's mean, or the model's own
    probability of the decision token, which needs no weights."""
    layer: int = -1
    """Decoder layer that a probe reads, counted from 1; -1 is the final-norm hidden state."""


class RoundTrip(Settings):
    """What was written and loaded again, against the trained module in memory, at some validation prompts."""

    prompts: int
    """How many."""
    logits: float
    """Largest difference of a next-token logit at the pre-CoT position."""
    head: float
    """Largest difference of the head's logit."""
    largest_logit: float
    """Largest logit in memory: the scale of `logits`."""
    tolerance: float
    """Largest difference allowed, as a share of that scale or of the head's, each at least 1."""


class VocabularyRow(Settings):
    """The linear head as a row of the `lm_head` (`merged-gate/`)."""

    token_id: int
    """The row. Its first-step logit, before any processor, is w . h."""
    suppressed: list[int]
    """Ids that no engine may sample: the row, and others that came with it."""
    bias: float
    """The head's b, which the logit lacks: p' = sigmoid(logit + b)."""
    logit_threshold: float
    """The gate refuses at or above this logit; +-1e6 where no logit, or every one, refuses."""
    probability_error: float
    """Largest difference of p' from the separate head's, in the dtype of the weights, at the round trip's prompts."""


class Calibration(Settings):
    """What the threshold was chosen on, and what that shows."""

    prompts: int
    """Benign validation prompts."""
    refused: int
    """How many of them the threshold refuses."""
    over_refusal_bound: float
    """Upper 95 % confidence bound, one-sided, of the share it refuses of prompts drawn as these were. The threshold was
    chosen on the same prompts, and the bound is one for that: `presafe.statistics.tail_bound`."""


class ShownPrompt(Settings):
    """A prompt to try the model with."""

    kind: Literal["harmful", "benign", "reasoning"]
    """What the run took it for."""
    text: str = Field(min_length=1)
    """The prompt."""


class Card(Settings):
    """`presafe.json` of an exported model."""

    base_model: str
    """Folder or hub name of the model that was trained."""
    dtype: Literal["float32", "bfloat16"]
    """Dtype of the model's weights."""
    weights: Literal["adapter", "full"] = "adapter"
    """What was trained: `adapter/`, which needs the base, or all weights, which are in `full/`."""
    think_format: dict[str, str | bool]
    """Tags, empty block, and whether the prompt opens the block."""
    think: Think | None = None
    """What the config says of the format, where the template does not show it."""
    head: HeadCard = HeadCard()
    """Where the head reads."""
    threshold: float
    """Calibrated threshold of the gate."""
    max_over_refusal: float
    """Share of benign validation prompts the threshold was allowed to refuse."""
    over_refusal: float | None = None
    """Share of benign validation prompts that it does refuse."""
    calibration: Calibration | None = None
    """The same as counts, with a confidence bound; missing in cards of before it was measured."""
    refusal: str = Field(pattern=r"\S")
    """What the gate's refusal says."""
    examples: list[ShownPrompt] = []
    """Some of the run's held-out prompts, for the endpoint's page."""
    config_hash: str
    """Hash of the alignment's settings."""
    metrics: dict[str, float]
    """Last training metrics."""
    training: dict[str, Any] = {}
    """Settings of the alignment, with the run's seed."""
    data: dict[str, int] = {}
    """What it was trained on: demonstrations by path, signal pool, validation prompts, what was left out."""
    versions: dict[str, str] = {}
    """Versions of the packages that trained it."""
    round_trip: dict[str, RoundTrip] = {}
    """The check at export, by folder."""
    vocabulary_row: VocabularyRow | None = None
    """In the card of `merged-gate/` alone."""


def read_card(folder: str) -> Card:
    """`presafe.json` of an exported model. Raises UserError where it is missing or of another shape.

    A base that was built in the run's storage is named where that storage lies now.
    """
    path = storage.join(storage.absolute(folder), MARKER)
    if not storage.exists(path):
        raise user_error(
            found=f"no exported model in {folder}",
            needed=f"{path}",
            change="give the model/ folder of a finished run (presafe run, presafe align)",
        )
    try:
        card = Card.model_validate(storage.read_json(path))
    except ValidationError as error:
        raise user_error(
            found=f"{path} of another shape: {error}", needed="a card of this version", change="export the model again"
        ) from error
    return card.model_copy(update={"base_model": _moved(card.base_model, path)})


@contextmanager
def reading_export(folder: str) -> Iterator[Card]:
    """Its card, for a body that reads what lies beside it. Raises UserError where it is no more the same behind it."""
    card = read_card(folder)
    yield card
    if not storage.is_local(folder) and read_card(folder) != card:
        raise user_error(
            found=f"{folder}, where another model was exported while this one was loaded",
            needed="one export at a time",
            change="load it again",
        )


def write_card(folder: str, card: Card) -> None:
    storage.write_text(storage.join(folder, MARKER), card.model_dump_json(indent=2) + "\n")


def _moved(base: str, card: str) -> str:
    """`base`, or where only that is there what is called so in the storage of the card, STORAGE/RUN/model/NAME."""
    above, _, name = base.rpartition("/")
    if not above.endswith(f"/{BUILT}") or storage.exists(base):
        return base
    found = storage.join(card.rsplit("/", 3)[0], BUILT, name)
    return found if storage.exists(found) else base
