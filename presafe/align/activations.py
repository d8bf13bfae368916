"""What one micro-batch keeps alive during its forward and backward pass, in bytes.

The formulas follow the tensors that transformers' Qwen2, Qwen3 and Llama and PEFT save for the backward pass, without
fused kernels. Liger and FlashAttention need less. tests/unit/test_align_activations.py holds them to PyTorch's
own record of allocations. Letters: T tokens, H hidden, I intermediate, Q and K query and key widths, V vocabulary.
"""

from dataclasses import dataclass

from presafe.align.shape import Shape
from presafe.config import Align, ReadoutHead

CROSS_ENTROPY_BLOCK = 1 << 26
"""Elements that DeepSpeed's chunked cross-entropy converts to float32 at a time, twice."""
ANCHORS = 2
"""Positions of a pool prompt at which a readout head is anchored to the base."""


@dataclass(frozen=True)
class Activations:
    """Bytes: `saved` from the forward to the backward pass, `layer` while one layer's backward runs, `logits` before
    it. The last two never live together."""

    saved: int
    layer: int
    logits: int

    @property
    def peak(self) -> int:
        return self.saved + max(self.layer, self.logits)


def activations(shape: Shape, align: Align, dtype_bytes: int, tokens: int, pool_prompts: int) -> Activations:
    """Of a micro-batch of `tokens` on one rank, every one of them a target; `pool_prompts` are among its sequences."""
    kept, mask = saved_by_layer(shape, align, dtype_bytes) * tokens, _attention_mask(tokens)
    work = _temporary(shape, align, dtype_bytes) * tokens
    head = logits(shape.vocabulary, dtype_bytes, tokens)
    if isinstance(align.head, ReadoutHead) and align.head.kl_weight > 0:
        # The base's log-probabilities, and the model's, each in float32 and once more as their logits.
        head += 4 * 4 * ANCHORS * pool_prompts * shape.vocabulary
    if align.gradient_checkpointing:
        return Activations(dtype_bytes * tokens * shape.hidden * shape.layers + mask, kept + work, head)
    return Activations(kept * shape.layers + mask, work, head)


def saved_by_layer(shape: Shape, align: Align, dtype_bytes: int) -> int:
    """Bytes a token that one decoder layer saves for its backward pass."""
    hidden, wide, query, key = shape.hidden, shape.intermediate, shape.query, shape.key_value
    saved = 2 * 4 * hidden  # the inputs of both norms, in float32
    if shape.normalised_heads:
        saved += 4 * (query + key)
    saved += dtype_bytes * (2 * query + 2 * key)  # queries, keys, values and the attention's output
    saved += dtype_bytes * 2 * query  # keys and values repeated for every query head, where sequences are packed
    saved += dtype_bytes * 3 * wide  # gate, its activation, up
    if align.lora is None:
        return saved + dtype_bytes * (4 * hidden + wide)  # the norms' outputs, twice, and the input of `down`
    saved += 4 * align.lora.r * shape.adapted // shape.layers
    # PEFT converts each adapter's input to float32; one that is float32 already is shared between adapters.
    return saved + 4 * (shape.adapted_inputs if dtype_bytes < 4 else 2 * hidden + wide)


def _temporary(shape: Shape, align: Align, dtype_bytes: int) -> int:
    """Bytes a token of what a layer's backward pass needs beside what is saved: measured, see the module's test."""
    if align.lora is None:
        return 2 * dtype_bytes * shape.intermediate + 5 * shape.hidden
    return 8 * shape.intermediate + 15 * shape.hidden


def logits(vocabulary: int, dtype_bytes: int, targets: int) -> int:
    """Logits and their gradient at the target positions, and the cross-entropy's float32 blocks."""
    elements = targets * vocabulary
    return 2 * dtype_bytes * elements + 2 * 4 * min(elements, CROSS_ENTROPY_BLOCK)


def _attention_mask(tokens: int) -> int:
    """The mask that keeps packed sequences apart: a byte, and a 16-bit copy, for each pair of tokens."""
    return 3 * tokens * tokens
