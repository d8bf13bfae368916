"""The trained module's ways of saving work change no number: attention by sequence, loss without all logits."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from presafe.align import cross_entropy as blocks
from presafe.align.build import build_module
from presafe.align.collate import Collator
from presafe.align.cross_entropy import FrozenOutputLoss
from presafe.align.kernels import sdpa_by_sequence, sequence_lengths
from presafe.align.model import HeadSpec
from support import save_random_model, small_align, uneven_examples

SPEC, COLLATOR = HeadSpec("linear", 1), Collator(0, (2, 1, 2), 1)


def test_sequence_lengths_are_read_off_the_position_ids():
    assert sequence_lengths(torch.tensor([[0, 1, 2, 0, 0, 1]])) == [3, 1, 2]
    assert sequence_lengths(torch.tensor([[0]])) == [1]


@pytest.mark.parametrize("window", [None, 5])
def test_attention_by_sequence_equals_a_block_diagonal_mask(window):
    lengths = [3, 9, 1, 12]
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, 25, 8, requires_grad=True) for heads in (4, 2, 2))
    sequence = torch.repeat_interleave(torch.arange(4), torch.tensor(lengths))
    distance = torch.arange(25)[:, None] - torch.arange(25)
    mask = (sequence[:, None] == sequence) & (distance >= 0) & (distance < (window or 25))
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
    found, _ = sdpa_by_sequence(torch.nn.Module(), query, key, value, None, lengths, sliding_window=window)
    torch.testing.assert_close(found, expected.transpose(1, 2))
    weights = torch.randn_like(found)
    for own, other in zip(
        torch.autograd.grad((found * weights).sum(), (query, key, value), retain_graph=True),
        torch.autograd.grad((expected.transpose(1, 2) * weights).sum(), (query, key, value)),
        strict=True,
    ):
        torch.testing.assert_close(own, other)


def test_attention_by_sequence_refuses_padded_rows():
    rows = torch.zeros(2, 1, 4, 8)
    with pytest.raises(ValueError, match="packed row"):
        sdpa_by_sequence(torch.nn.Module(), rows, rows, rows, None)


def test_the_loss_in_blocks_and_its_gradient_equal_plain_cross_entropy(monkeypatch):
    monkeypatch.setitem(blocks.BLOCK, "cpu", 3 * 40)  # blocks of three rows, and a last one of two
    torch.manual_seed(0)
    hidden = torch.randn(11, 16, dtype=torch.float64, requires_grad=True)
    weight = torch.nn.Parameter(torch.randn(40, 16, dtype=torch.float64), requires_grad=False)
    targets = torch.randint(40, (11,))
    loss, expected = (
        FrozenOutputLoss(weight)(hidden, targets),
        cross_entropy(hidden @ weight.T, targets, reduction="sum"),
    )
    torch.testing.assert_close(loss, expected)
    found, wanted = (torch.autograd.grad(0.3 * value, hidden)[0] for value in (loss, expected))
    torch.testing.assert_close(found, wanted)


def test_a_frozen_output_layer_and_a_trained_one_give_the_same_losses(tmp_path):
    base, batch = save_random_model(str(tmp_path)), COLLATOR.pack(uneven_examples(12)).to(torch.device("cpu"))
    adapters, full = (build_module(base, "float32", small_align(**c), SPEC, 0) for c in ({}, {"lora": None}))
    assert adapters.output_loss is not None
    assert full.output_loss is None
    full.head.load_state_dict(adapters.head.state_dict())
    torch.testing.assert_close(adapters(**batch).sums, full(**batch).sums)
