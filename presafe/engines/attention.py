"""Attention over sequences that lie end to end in one row, one after the other: no mask of all against all."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention


def attention_by_sequence(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    queries: Sequence[int],
    keys: Sequence[int],
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> torch.Tensor:
    """Causal attention [1, T, heads, d] of a packed row; query: [1, heads, T, d], key and value: [1, heads, T', d].

    The sequences have so many `queries` and `keys`, whose last ones belong together. A block-diagonal mask costs
    T x T' whatever the sequences; this costs the sum of what each costs alone.
    """
    rows = zip(
        torch.split(query, [*queries], dim=2),
        torch.split(key, [*keys], dim=2),
        torch.split(value, [*keys], dim=2),
        strict=True,
    )
    found = [
        scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=(mask := _mask(q.shape[2], k.shape[2], sliding_window, q.device)),
            dropout_p=dropout,
            scale=scaling,
            is_causal=mask is None and q.shape[2] > 1,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        for q, k, v in rows
    ]
    return torch.cat(found, dim=2).transpose(1, 2)


def _mask(queries: int, keys: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """Which keys each query sees, [queries, keys]; None where they are all those in front of it, from the first one."""
    cut = window is not None and keys > window
    if not cut and queries in (1, keys):
        return None
    ones = torch.ones(queries, keys, dtype=torch.bool, device=device)
    past = keys - queries
    seen = ones.tril(past)
    return seen.triu(past + 1 - window) if cut and window is not None else seen
