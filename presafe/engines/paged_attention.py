"""Attention of the default engine's batches on a CPU."""

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from presafe.engines.attention import attention_by_sequence

NAME = "by_sequence_as_flash"
"""transformers' continuous batching makes lengths, and no mask of all against all, for a name with `flash` in it."""


def attend_by_sequence(model: Any) -> None:
    """Let `model` compute each completion's attention by itself.

    With sdpa, a batch's attention costs all its tokens times all tokens in the cache: FlashAttention's work on a GPU.
    """
    AttentionInterface.register(NAME, _batch_attention)
    model.config._attn_implementation = NAME  # its public setter looks for a FlashAttention to load


def _batch_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    cache: Any = None,
    **batch: Any,
) -> tuple[torch.Tensor, None]:
    """[1, T, heads, d] of the batch's T new tokens, behind what the cache has of their completions.

    Outside continuous batching there is no cache of its kind, and sdpa does it.
    """
    if cache is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **batch)  # type: ignore[no-any-return]
    key, value = cache.update(key, value, module.layer_idx, batch)  # it picks the lengths of this layer's kind, too
    queries, keys = (batch[name].diff().tolist() for name in ("cu_seq_lens_q", "cu_seq_lens_k"))
    return attention_by_sequence(query, key, value, queries, keys, **batch), None
