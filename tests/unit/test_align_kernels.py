"""The trained module's ways of saving work change no number: attention by sequence, loss without all logits."""

from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AttentionInterface, AutoModelForCausalLM

from presafe.align.module import cross_entropy as blocks
from presafe.align.module import kernels
from presafe.align.module.build import build_module, equip
from presafe.align.module.collate import Collator
from presafe.align.module.cross_entropy import FrozenOutputLoss
from presafe.align.module.kernels import (
    attention,
    chosen,
    packing,
    repeats_heads,
    sdpa_by_sequence,
    use_liger,
    varlen_attention,
    varlen_kernel,
)
from presafe.align.module.model import HeadSpec
from support import save_random_model, small_align, uneven_examples

SPEC, COLLATOR = HeadSpec("linear", 1), Collator(0, (2, 1, 2), 1)


def packed_row(window: int | None, device: str = "cpu") -> tuple[dict, list[torch.Tensor]]:
    """What attention is told of four sequences, and random queries, keys and values of theirs, with shared heads."""
    torch.manual_seed(0)
    told = packing(torch.cat([torch.arange(length) for length in (3, 9, 1, 12)])[None].to(device))
    states = [torch.randn(1, heads, 25, 8, device=device, requires_grad=True) for heads in (4, 2, 2)]
    return {**told, "scaling": 0.3, "sliding_window": window}, states


def documented_kernel(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size):
    """What torch documents of `varlen_attn`, of query [T, heads, d] and as many heads of key and value."""
    assert query.shape == key.shape == value.shape
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert (max_q, max_k) == (int(cu_seq_q.diff().max()), int(cu_seq_k.diff().max()))
    where, sequence = torch.arange(len(query)), torch.searchsorted(cu_seq_q, torch.arange(len(query)), right=True)
    distance = where[:, None] - where
    left, right = (reach if reach >= 0 else len(query) for reach in window_size)
    mask = (sequence[:, None] == sequence) & (distance <= left) & (distance >= -right)
    heads_first = (states.transpose(0, 1) for states in (query, key, value))
    return torch.nn.functional.scaled_dot_product_attention(*heads_first, attn_mask=mask, scale=scale).transpose(0, 1)


def documented_kernel_with_groups(query, key, value, *lengths, enable_gqa=False, **options):
    """The same of a torch whose kernel shares heads itself."""
    assert enable_gqa
    assert key.shape[1] < query.shape[1]
    key, value = (states.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for states in (key, value))
    return documented_kernel(query, key, value, *lengths, **options)


def test_lengths_and_offsets_are_read_off_the_position_ids():
    told = packing(torch.tensor([[0, 1, 2, 0, 0, 1]]))
    assert told["lengths"] == [3, 1, 2]
    assert told["cu_seq_lens_q"].tolist() == told["cu_seq_lens_k"].tolist() == [0, 3, 4, 6]
    assert told["max_length_q"] == told["max_length_k"] == 3
    assert packing(torch.tensor([[0]]))["lengths"] == [1]


@pytest.mark.parametrize(
    ("fast", "installed", "built_in", "name"),
    [
        (True, True, True, "flash_attention_2"),
        (True, True, False, "flash_attention_2"),
        (True, False, True, "varlen"),
        (True, False, False, "sdpa_by_sequence"),
        (False, True, True, "sdpa_by_sequence"),
    ],
)
def test_flash_attention_is_taken_where_it_runs_the_installed_one_first(fast, installed, built_in, name):
    assert chosen(fast, installed=installed, built_in=built_in) == name


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CPU alone")
def test_a_cpu_computes_sequence_by_sequence():
    assert attention(small_align(), "bfloat16") == "sdpa_by_sequence"


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("kernel", [documented_kernel, documented_kernel_with_groups])
def test_the_kernel_for_packed_rows_is_asked_for_attention_by_sequence(kernel, window):
    told, states = packed_row(window)
    found, _ = varlen_attention(kernel, torch.nn.Module(), *states, None, **told)
    torch.testing.assert_close(found, sdpa_by_sequence(torch.nn.Module(), *states, None, **told)[0])


def test_what_the_kernel_cannot_do_goes_sequence_by_sequence():
    told, states = packed_row(None)
    torch.manual_seed(1)
    expected, _ = sdpa_by_sequence(torch.nn.Module(), *states, None, **told, dropout=0.5)
    torch.manual_seed(1)
    torch.testing.assert_close(
        varlen_attention(documented_kernel, torch.nn.Module(), *states, None, **told, dropout=0.5)[0], expected
    )
    with pytest.raises(ValueError, match="packed row"):
        varlen_attention(documented_kernel, torch.nn.Module(), *[s.expand(2, -1, -1, -1) for s in states], None, **told)


def test_a_packed_model_tells_the_kernel_its_sequences(tmp_path):
    asked = []

    def kernel(query, key, value, offsets, *further, **options):
        asked.append(offsets.tolist())
        return documented_kernel(query, key, value, offsets, *further, **options)

    AttentionInterface.register("varlen", partial(varlen_attention, kernel))
    base, rows = save_random_model(str(tmp_path)), uneven_examples(12)
    batch, align = COLLATOR.pack(rows).to(torch.device("cpu")), small_align(kernels="torch")
    lm = AutoModelForCausalLM.from_pretrained(base, attn_implementation="varlen")
    sums = equip(lm, align, SPEC, 0)(**batch).sums
    torch.testing.assert_close(sums, build_module(base, "float32", align, SPEC, 0)(**batch).sums)
    assert asked == [[0, *batch["lengths"].cumsum(0).tolist()]] * lm.config.num_hidden_layers


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch's kernel needs a GPU")
@pytest.mark.parametrize("window", [None, 5])
def test_torchs_kernel_and_its_gradient_equal_attention_by_sequence(window):
    kernel = varlen_kernel()
    assert kernel is not None
    told, states = packed_row(window, "cuda")
    half = [s.detach().bfloat16().requires_grad_() for s in states]
    found, _ = varlen_attention(kernel, torch.nn.Module(), *half, None, **told)
    expected, _ = sdpa_by_sequence(torch.nn.Module(), *states, None, **told)
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.02)
    weights = torch.randn_like(expected)
    for own, other in zip(
        torch.autograd.grad((found.float() * weights).sum(), half),
        torch.autograd.grad((expected * weights).sum(), states),
        strict=True,
    ):
        assert torch.nn.functional.cosine_similarity(own.float().flatten(), other.flatten(), dim=0) > 0.999


@pytest.mark.parametrize(
    ("kernel", "dtype", "repeats"),
    [
        (documented_kernel, "bfloat16", True),
        (documented_kernel_with_groups, "bfloat16", False),
        (documented_kernel, "float32", False),
        (None, "bfloat16", False),
    ],
)
def test_heads_are_repeated_for_a_kernel_that_does_not_share_them(monkeypatch, kernel, dtype, repeats):
    monkeypatch.setattr(kernels, "varlen_kernel", lambda: kernel)
    assert repeats_heads(small_align(kernels="torch"), dtype) == repeats


@pytest.mark.parametrize(
    ("dtype", "lora", "tf32"),
    [(torch.bfloat16, {"r": 4}, True), (torch.float32, {"r": 4}, False), (torch.bfloat16, None, False)],
)
def test_adapters_of_a_bfloat16_model_are_multiplied_in_tf32(tmp_path, dtype, lora, tf32):
    products, before = torch.backends.cuda.matmul, torch.backends.cuda.matmul.allow_tf32
    lm = AutoModelForCausalLM.from_pretrained(save_random_model(str(tmp_path)), dtype=dtype)
    try:
        products.allow_tf32 = False
        equip(lm, small_align(kernels="torch", lora=lora), SPEC, 0)
        assert products.allow_tf32 is tf32
    finally:
        products.allow_tf32 = before


def test_liger_changes_the_trained_model_alone(tmp_path, monkeypatch):
    pytest.importorskip("liger_kernel")
    monkeypatch.setattr(kernels, "_wanted", lambda *_: True)
    base, tokens = save_random_model(str(tmp_path)), torch.tensor([[3, 1, 4, 1, 5]])
    expected = AutoModelForCausalLM.from_pretrained(base)(tokens).logits
    lm = AutoModelForCausalLM.from_pretrained(base)
    use_liger(lm, small_align())
    assert lm.model.layers[0].mlp._get_name() == "LigerSwiGLUMLP"
    torch.testing.assert_close(AutoModelForCausalLM.from_pretrained(base)(tokens).logits, expected)


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
    adapters, full = (
        build_module(base, "float32", small_align(kernels="torch", **c), SPEC, 0) for c in ({}, {"lora": None})
    )
    assert adapters.output_loss is not None
    assert full.output_loss is None
    full.head.load_state_dict(adapters.head.state_dict())
    torch.testing.assert_close(adapters(**batch).sums, full(**batch).sums)
