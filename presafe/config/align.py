"""Sections `align` and `gate`."""

from typing import Literal

from pydantic import Field

from presafe.config.run import Workers
from presafe.config.settings import Settings


class Lora(Settings):
    """Low-rank adapters; the paper states neither rank nor targets, so these are ours."""

    r: int = Field(64, ge=1)
    """Rank."""
    alpha: float = Field(128, gt=0)
    """Scale: the adapter's output times alpha / r."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout in front of the adapter."""
    target_modules: list[str] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    """Linear layers that get one."""


class Align(Settings):
    """Stage `align`: L = L_LM + weight * L_align under DeepSpeed. Values are ours: the paper states none of them."""

    workers: Workers = Workers()
    """Ranks of the Ray Train group."""
    zero_stage: Literal[0, 1, 2, 3] = 3
    """DeepSpeed ZeRO stage."""
    lora: Lora = Lora()
    """Adapters."""
    weight: float = Field(1.0, ge=0)
    """Weight of L_align."""
    learning_rate: float = Field(1e-4, gt=0)
    """Peak of a linear-warm-up cosine schedule."""
    warmup_share: float = Field(0.1, ge=0, lt=1)
    """Share of the steps that warm up."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Global gradient-norm clipping."""
    steps: int = Field(200, ge=1)
    """Optimizer steps."""
    batch_size: int = Field(32, ge=1)
    """Global batch in sequences."""
    micro_batch_tokens: int = Field(8192, ge=1)
    """Tokens of one packed micro-batch on one rank; a longer sequence is an error."""
    max_refuse_examples: int | None = Field(None, ge=0)
    """At most so many Path A demonstrations."""
    max_think_examples: int | None = Field(None, ge=0)
    """At most so many Path B demonstrations."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass."""
    checkpoint_every: int = Field(50, ge=1)
    """Steps between committed checkpoints: what a crash costs at most."""
    max_failures: int = Field(3, ge=0)
    """Worker losses the run survives."""
    merge: bool = False
    """Export the merged weights beside the adapter."""


class Gate(Settings):
    """The safety head kept as a gate at inference (the paper drops it: `off`)."""

    refusal: str = "I'm sorry, but I can't help with that."
    """What a gate's refusal says."""
    max_over_refusal: float = Field(0.01, ge=0, lt=1)
    """Share of benign validation prompts that the calibrated threshold may refuse."""
