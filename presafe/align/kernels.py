"""How the model computes: attention of packed rows, and faster kernels for a GPU where they are installed."""

from importlib.util import find_spec
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from presafe.config import Align


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
    rows = zip(*(torch.split(tensor, lengths, dim=2) for tensor in (query, key, value)), strict=True)
    return torch.cat([_causal(*row, **options) for row in rows], dim=2).transpose(1, 2), None


def _causal(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> torch.Tensor:
    length = query.shape[2]
    band = None
    if sliding_window is not None and length > sliding_window:
        ones = torch.ones(length, length, dtype=torch.bool, device=query.device)
        band = ones.tril().triu(1 - sliding_window)
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=band,
        dropout_p=dropout,
        scale=scaling,
        is_causal=band is None,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def use_liger(model: Any, align: Align) -> None:
    """Liger's fused norms, rotary embedding and MLP; not its losses, since ours has only the targets' logits."""
    if _wanted(align, "liger_kernel"):
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        _apply_liger_kernel_to_instance(model=model, fused_linear_cross_entropy=False, cross_entropy=False)


def _wanted(align: Align, package: str) -> bool:
    return align.kernels == "auto" and torch.cuda.is_available() and find_spec(package) is not None
