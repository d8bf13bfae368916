"""Faster kernels for a GPU: used where they are installed, never required."""

from importlib.util import find_spec
from typing import Any

import torch

from presafe.config import Align


def attention(align: Align) -> str:
    """`attn_implementation` of the model: FlashAttention keeps packed sequences apart without a mask of T x T."""
    return "flash_attention_2" if _wanted(align, "flash_attn") else "sdpa"


def use_liger(model: Any, align: Align) -> None:
    """Liger's fused norms, rotary embedding and MLP; not its losses, since ours has only the targets' logits."""
    if _wanted(align, "liger_kernel"):
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        _apply_liger_kernel_to_instance(model=model, fused_linear_cross_entropy=False, cross_entropy=False)


def _wanted(align: Align, package: str) -> bool:
    return align.kernels == "auto" and torch.cuda.is_available() and find_spec(package) is not None
