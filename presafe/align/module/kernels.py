"""How the model computes: attention of packed rows, and faster kernels for a GPU where they are installed."""

import inspect
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from presafe.config import Align
from presafe.engines.attention import attention_by_sequence

Kernel = Callable[..., Any]
"""torch's `varlen_attn`, or one with its arguments."""
AMPERE = (8, 0)
"""The first GPUs that FlashAttention runs on, torch's own too."""


def attention(align: Align, dtype: str) -> str:
    """`attn_implementation` of a model in `dtype`: each keeps packed sequences apart without a mask of T x T.

    In bfloat16 on a GPU: FlashAttention where it is installed, else torch's own where this torch has it. Elsewhere, one
    sequence after the other.
    """
    fast = dtype == "bfloat16" and torch.cuda.is_available() and torch.cuda.get_device_capability() >= AMPERE
    kernel = varlen_kernel()
    AttentionInterface.register("sdpa_by_sequence", sdpa_by_sequence)
    if kernel is not None:
        AttentionInterface.register("varlen", partial(varlen_attention, kernel))
    return chosen(fast, installed=_wanted(align, "flash_attn"), built_in=kernel is not None)


def chosen(fast: bool, *, installed: bool, built_in: bool) -> str:
    """The implementation where the kernels can run (`fast`), and of which of the two FlashAttentions there is."""
    if fast and installed:
        return "flash_attention_2"
    return "varlen" if fast and built_in else "sdpa_by_sequence"


def varlen_kernel() -> Kernel | None:
    """torch's own FlashAttention over packed sequences; None before torch 2.11, whose one has no window."""
    if find_spec("torch.nn.attention.varlen") is None:
        return None
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn if "window_size" in inspect.signature(varlen_attn).parameters else None


def shares_heads(kernel: Kernel) -> bool:
    """Whether the kernel shares key-value heads between queries by itself."""
    return "enable_gqa" in inspect.signature(kernel).parameters


def repeats_heads(align: Align, dtype: str) -> bool:
    """Whether the kernel that a GPU gets needs key-value heads repeated, by what is installed here."""
    kernel = varlen_kernel()
    return dtype == "bfloat16" and kernel is not None and not (shares_heads(kernel) or _has(align, "flash_attn"))


def packing(position_ids: torch.Tensor) -> dict[str, Any]:
    """What attention is told of a packed row [1, T], whose position ids restart at 0.

    `lengths` of its N sequences, and by transformers' names for FlashAttention where they begin and end [N + 1], int32,
    on the row's device, and the longest one.
    """
    starts = (position_ids[0] == 0).nonzero().flatten()
    offsets = torch.nn.functional.pad(starts, (0, 1), value=position_ids.shape[1]).int()
    lengths = offsets.diff().tolist()
    ends, longest = dict.fromkeys(("cu_seq_lens_q", "cu_seq_lens_k"), offsets), max(lengths)
    return {"lengths": lengths, **ends, "max_length_q": longest, "max_length_k": longest}


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


def varlen_attention(
    kernel: Kernel,
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """As `sdpa_by_sequence`, all sequences in one call of `kernel`, which knows no dropout."""
    if query.shape[0] != 1 or cu_seq_lens_q is None or dropout:
        options |= {"dropout": dropout, "scaling": scaling, "sliding_window": sliding_window}
        return sdpa_by_sequence(module, query, key, value, attention_mask, **options)
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    shared: dict[str, bool] = {}
    if (groups := query.shape[1] // key.shape[1]) > 1:
        if shares_heads(kernel):
            shared = {"enable_gqa": True}
        else:
            key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    found = kernel(
        query,
        key,
        value,
        cu_seq_lens_q,
        cu_seq_lens_q,
        max_length_q,
        max_length_q,
        scale=scaling,
        window_size=(-1 if sliding_window is None else sliding_window - 1, 0),  # keys before it, keys behind it
        **shared,
    )
    return found[None], None


def use_liger(model: Any, align: Align) -> None:
    """Liger's fused norms and MLP; not its losses, since ours has only the targets' logits.

    In this model alone. Liger also replaces the classes that others of the architecture are made of, for good: the
    export, which checks what it wrote on the CPU, would run its kernels there. So they are put back, and the rotary
    embedding, which is a function of all models, stays transformers'.
    """
    if _wanted(align, "liger_kernel"):
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        architecture = vars(sys.modules[type(model).__module__])
        own = dict(architecture)
        _apply_liger_kernel_to_instance(model=model, rope=False, fused_linear_cross_entropy=False, cross_entropy=False)
        architecture.update(own)


def use_tf32(model: Any) -> None:
    """Let this process multiply float32 matrices, which are those of a bfloat16 model's adapters and head, in TF32.

    What they multiply has been bfloat16, which TF32 holds exactly; they themselves are rounded to 11 bits for the
    product, whose sum is float32. It concerns GPUs of the A100's generation or newer, and nothing that is stored.
    """
    if model.dtype is torch.bfloat16:
        torch.backends.cuda.matmul.allow_tf32 = True


def _wanted(align: Align, package: str) -> bool:
    return torch.cuda.is_available() and _has(align, package)


def _has(align: Align, package: str) -> bool:
    return align.kernels == "auto" and find_spec(package) is not None
