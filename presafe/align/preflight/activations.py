"""What one micro-batch keeps alive during its forward and backward pass, in bytes.

The formulas follow the tensors that transformers' Qwen2, Qwen3 and Llama and PEFT save for the backward pass, without
fused kernels, where attention goes sequence by sequence (kernels.py) and a frozen output layer's loss block by block
(cross_entropy.py). Liger and FlashAttention need less. tests/unit/test_align_activations.py holds them to PyTorch's own
record of the trained module's allocations.
"""

from dataclasses import dataclass

from presafe.align.preflight.shape import Shape
from presafe.config import Align, ReadoutHead

CROSS_ENTROPY_BLOCK = 1 << 26
"""Logits that DeepSpeed's chunked cross-entropy, for a trained output layer, converts to float32 at a time, twice."""
FULL = 4
"""Bytes of a float32."""
ANCHORS = 2
"""Positions of a pool prompt at which a readout head is anchored to the base."""


@dataclass(frozen=True)
class Activations:
    """Bytes: `saved` from the forward to the backward pass, `layer` while one layer's backward runs, `logits` before
    it, with the hidden states they are made of. The last two never live together."""

    saved: int
    layer: int
    logits: int

    @property
    def peak(self) -> int:
        return self.saved + max(self.layer, self.logits)


def activations(
    shape: Shape,
    align: Align,
    dtype_bytes: int,
    tokens: int,
    pool_prompts: int,
    loss_block: int,
    *,
    repeated: bool = False,
) -> Activations:
    """Of a micro-batch of `tokens` on one rank, every one of them a target; `pool_prompts` are among its sequences.

    `loss_block` is cross_entropy.BLOCK of the rank's device; `repeated`: its attention has as many key as query heads.
    """
    kept = saved_by_layer(shape, align, dtype_bytes) * tokens
    if repeated:
        kept += dtype_bytes * 2 * (shape.query - shape.key_value) * tokens
    work = _temporary(shape, align, dtype_bytes) * tokens
    head = _loss(shape, align, dtype_bytes, tokens, loss_block)
    if isinstance(align.head, ReadoutHead) and align.head.kl_weight > 0:
        # The base's log-probabilities, and the model's, each in float32 and once more as their logits.
        head += 4 * FULL * ANCHORS * pool_prompts * shape.vocabulary
    if align.gradient_checkpointing:
        return Activations(dtype_bytes * tokens * shape.hidden * shape.layers, kept + work, head)
    return Activations(kept * shape.layers, work, head)


def saved_by_layer(shape: Shape, align: Align, dtype_bytes: int) -> int:
    """Bytes a token that one decoder layer saves for its backward pass."""
    hidden, wide, query, key = shape.hidden, shape.intermediate, shape.query, shape.key_value
    saved = 2 * FULL * hidden  # the inputs of both norms, in float32
    if shape.normalised_heads:
        saved += FULL * (query + key)
    saved += dtype_bytes * (2 * query + 2 * key)  # queries, keys, values and the attention's output
    saved += dtype_bytes * 3 * wide  # gate, its activation, up
    if align.lora is None:
        # The norms' outputs, twice, the sequences' attention joined, and the input of `down`.
        normalised = query + key if shape.normalised_heads else 0
        return saved + dtype_bytes * (4 * hidden + normalised + query + wide)
    saved += FULL * align.lora.r * shape.adapted // shape.layers
    # PEFT converts each adapter's input to float32; one that is float32 already is shared between adapters.
    return saved + FULL * (shape.adapted_inputs if dtype_bytes < FULL else 2 * hidden + wide)


def _temporary(shape: Shape, align: Align, dtype_bytes: int) -> int:
    """Bytes a token of what a layer's backward pass needs beside what is saved: measured, see the module's test."""
    if align.lora is None:
        return 2 * dtype_bytes * shape.intermediate + 5 * shape.hidden
    return 8 * shape.intermediate + 15 * shape.hidden


def _loss(shape: Shape, align: Align, dtype_bytes: int, targets: int, block: int) -> int:
    """All logits and their gradient, or one block of a frozen output layer's; and the hidden states: the final norm's
    input and output, those of the targets and their gradient."""
    hidden = (FULL + 3 * dtype_bytes) * targets * shape.hidden
    elements = targets * shape.vocabulary
    if align.lora is None:
        return hidden + 2 * dtype_bytes * elements + 2 * FULL * min(elements, CROSS_ENTROPY_BLOCK)
    rows = max(1, block // shape.vocabulary)
    converted = dtype_bytes if dtype_bytes < FULL else 0
    if targets <= rows:
        return hidden + (FULL + converted) * elements
    # A block is made while the last one is still there.
    return hidden + (2 * FULL + converted) * rows * shape.vocabulary
