"""Attention sequence by sequence is attention under a mask."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from presafe.engines.attention import attention_by_sequence


@pytest.mark.parametrize("window", [None, 4])
def test_new_tokens_see_their_own_sequence_up_to_themselves(window):
    queries, keys = [1, 3, 5, 1, 2], [6, 3, 9, 1, 3]
    torch.manual_seed(0)
    query = torch.randn(1, 4, sum(queries), 8)
    key, value = torch.randn(2, 1, 2, sum(keys), 8)
    place = torch.cat([torch.arange(k - q, k) for q, k in zip(queries, keys, strict=True)])
    distance = place[:, None] - torch.cat([torch.arange(k) for k in keys])
    owners = [torch.repeat_interleave(torch.arange(5), torch.tensor(lengths)) for lengths in (queries, keys)]
    mask = (owners[0][:, None] == owners[1]) & (distance >= 0) & (distance < (window or 100))
    expected = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3, enable_gqa=True)
    found = attention_by_sequence(query, key, value, queries, keys, scaling=0.3, sliding_window=window, foreign=1)
    torch.testing.assert_close(found, expected.transpose(1, 2))
