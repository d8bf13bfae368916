"""The head as a row of the vocabulary, on models of all kinds of vocabulary."""

import pytest
import torch

from presafe.decision.gate_row import logit_threshold, write_gate_row
from presafe.decision.head import SafetyHead
from presafe.engines.exported import load_base
from support import random_qwen2
from tiny_tokenizer import QWEN3, save_tokenizer, tiny_tokenizer

PROMPT = torch.tensor([[5, 6, 7, 8]])


def head_of(model):
    torch.manual_seed(1)
    head = SafetyHead(model.config.hidden_size)
    torch.nn.init.normal_(head.linear.bias)
    return head.requires_grad_(False)


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("padding", "rows"), [(0, 1), (3, 3)], ids=["full vocabulary", "padded"])
def test_the_saved_row_is_the_head_and_all_else_stays(tmp_path, tied, padding, rows):
    tokenizer = save_tokenizer(str(tmp_path), QWEN3)
    size = len(tokenizer) | 1  # odd, so that one row is all that a full vocabulary grows by
    model = random_qwen2(size + padding, tie_word_embeddings=tied)
    head, before = head_of(model), model(PROMPT, output_hidden_states=True)
    if padding == 0 and size > len(tokenizer):
        model.config.pad_token_id = len(tokenizer)  # no tokenizer writes it, but it has a name
    row = write_gate_row(model, tokenizer, head, 0.7)
    model.save_pretrained(tmp_path)
    after = load_base(str(tmp_path), "float32").model
    logits = after(PROMPT).logits[0, -1]
    assert row.token_id == size + rows - 1
    assert logits[row.token_id] + row.bias == pytest.approx(head(before.hidden_states[-1][0, -1]).item(), abs=1e-5)
    others = torch.arange(size + padding) != row.token_id
    assert torch.equal(logits[: size + padding][others], before.logits[0, -1][others])
    assert after.config.tie_word_embeddings is False
    assert after.get_input_embeddings().weight.data_ptr() != after.get_output_embeddings().weight.data_ptr()
    assert after.generation_config.suppress_tokens == row.suppressed == [row.token_id]


def test_a_vocabulary_keeps_the_multiple_it_was_of_and_no_added_id_can_be_sampled():
    tokenizer = tiny_tokenizer(QWEN3)
    size = len(tokenizer)
    assert size % 16 == 0
    model = random_qwen2(size)
    model.generation_config.suppress_tokens = [3]
    row = write_gate_row(model, tokenizer, head_of(model), 0.5)
    rows = model.get_output_embeddings().weight.shape[0]
    assert rows - size == min(size & -size, 128)
    assert model.config.vocab_size == rows == model.get_input_embeddings().weight.shape[0]
    assert row.suppressed == list(range(size, rows))
    assert model.generation_config.suppress_tokens == [3, *row.suppressed]


@pytest.mark.parametrize(("threshold", "bias"), [(0.7, 2.0), (0.001, -1.5), (0.5, 0.0)])
def test_the_bias_is_folded_into_the_threshold(threshold, bias):
    logit = torch.tensor(logit_threshold(threshold, bias), dtype=torch.float64)
    assert torch.sigmoid(logit + bias).item() == pytest.approx(threshold, abs=1e-12)


def test_a_threshold_of_no_or_every_refusal_is_a_number_that_json_can_hold():
    assert logit_threshold(0.0, 3.0) == -1e6
    assert logit_threshold(1.0000000000000002, 3.0) == 1e6
