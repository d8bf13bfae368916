"""How the model computes: attention of packed rows, and faster kernels for a GPU where they are installed."""

from importlib.util import find_spec
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from presafe.config import Align
from presafe.engines.attention import attention_by_sequence


def attention(align: Align) -> str:
    """`attn_implementation` of the model: each keeps packed sequences apart without a mask of T x T."""
    if _wanted(align, "flash_attn"):
        return "flash_attention_2"
    AttentionInterface.register("sdpa_by_sequence", sdpa_by_sequence)
    return "sdpa_by_sequence"


def sequence_lengths(position_ids: torch.Tensor) -> list[int]:
    """Lengths of the sequences of a packed row [1, T], whose position ids restart at 0."""
    starts = (position_ids[0] == 0).nonzero().flatten().tolist()
    return [end - start for start, end in zip(starts, [*starts[1:], position_ids.shape[1]], strict=True)]


def sdpa_by_sequence(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    lengths: list[int] | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention [1, T, heads, d] of a packed row, one sequence after the other.

    A block-diagonal mask costs T x T whatever the sequences; this costs the sum of their squares. Without `lengths`
    the row is one sequence. Raises ValueError for padded rows, whose mask transformers does not build for this.
    """
    if query.shape[0] != 1:
        raise ValueError("attention by sequence needs one packed row: pass position_ids that restart, and no padding")
    if lengths is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)  # type: ignore[no-any-return]
    return attention_by_sequence(query, key, value, lengths, lengths, **options), None


def use_liger(model: Any, align: Align) -> None:
    """Liger's fused norms, rotary embedding and MLP; not its losses, since ours has only the targets' logits."""
    if _wanted(align, "liger_kernel"):
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        _apply_liger_kernel_to_instance(model=model, fused_linear_cross_entropy=False, cross_entropy=False)


def _wanted(align: Align, package: str) -> bool:
    return align.kernels == "auto" and torch.cuda.is_available() and find_spec(package) is not None
