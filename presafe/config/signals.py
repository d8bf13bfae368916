"""Section `signals`."""

from typing import Any, Literal

from pydantic import Field

from presafe.config.settings import HowItRuns, Settings
from presafe.config.workers import Workers


class FreshEncoder(Settings):
    """A BERT trained from scratch on the model's own tokenizer."""

    hidden_size: int = Field(64, ge=8)
    """Width."""
    num_hidden_layers: int = Field(2, ge=1)
    """Layers."""
    num_attention_heads: int = Field(4, ge=1)
    """Heads."""


class BuiltEncoder(Settings):
    """A pre-trained encoder that a function builds."""

    build: str
    """`module:function`, called with (cache folder, seed, **build_options); returns the encoder's folder."""
    build_options: dict[str, Any] = {}
    """Keyword arguments of `build`."""


class Signals(Settings):
    """Stage `signals`: the classifier of the teacher's decisions and p_j for every prompt."""

    workers: HowItRuns[Workers] = Workers()
    """Data-parallel ranks of the training, and actors of the scoring."""
    encoder: str | BuiltEncoder | FreshEncoder = "answerdotai/ModernBERT-base"
    """Pre-trained encoder (folder or hub name), or the function that builds one; `model` for a copy of the reasoning
    model's own weights, which then train in full in float32 on each rank; or the shape of a BERT to train from
    scratch."""
    splits: list[Literal["classifier", "align", "pool"]] = Field(["classifier"], min_length=1)
    """Splits whose teacher decisions train the classifier. Those of the other splits are there for free, but signals
    of prompts that were trained on repeat the teacher instead of generalising it."""
    learning_rate: float = Field(5e-5, gt=0)
    """Peak of a linear-warm-up cosine schedule."""
    epochs: int = Field(3, ge=1)
    """Passes over the training rows, at most."""
    batch_size: int = Field(32, ge=1)
    """Global batch."""
    max_tokens: int = Field(512, ge=8)
    """Queries are cut to so many tokens."""
    noise_tokens: int = Field(0, ge=0)
    """In training, up to so many random tokens of the vocabulary are put before a query and after it, so that the
    classifier learns to look past words it does not know; 0 adds none."""
    class_weighting: bool = False
    """Give refusals and compliances the same total weight; probabilities then lean to the rarer decision."""
    stopping_share: float = Field(0.1, gt=0, lt=1)
    """Share of the training rows that training never sees: the epoch with the lowest loss on it is kept."""
    patience: int = Field(2, ge=1)
    """Training ends after so many epochs in a row without a lower loss."""
    leave_one_source_out: bool = True
    """For the report, also train without each source in turn and test on it: one more training a source."""
    baselines: bool = True
    """For the report, also fit logistic regressions on frozen embeddings and on TF-IDF."""
