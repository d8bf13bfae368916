"""Section `signals`."""

from pydantic import Field

from presafe.config.run import Workers
from presafe.config.settings import Settings


class FreshEncoder(Settings):
    """A BERT trained from scratch on the model's own tokenizer."""

    hidden_size: int = Field(64, ge=8)
    """Width."""
    num_hidden_layers: int = Field(2, ge=1)
    """Layers."""
    num_attention_heads: int = Field(4, ge=1)
    """Heads."""


class Signals(Settings):
    """Stage `signals`: the BERT classifier of the teacher's decisions and p_j for every prompt."""

    workers: Workers = Workers()
    """Data-parallel ranks of the training, and actors of the scoring."""
    encoder: str | FreshEncoder = "answerdotai/ModernBERT-base"
    """Pre-trained encoder (folder or hub name), or the shape of one to train from scratch."""
    learning_rate: float = Field(5e-5, gt=0)
    """Peak of a linear-warm-up cosine schedule."""
    epochs: int = Field(3, ge=1)
    """Passes over the classifier split."""
    batch_size: int = Field(32, ge=1)
    """Global batch."""
    max_tokens: int = Field(512, ge=8)
    """Queries are cut to so many tokens."""
