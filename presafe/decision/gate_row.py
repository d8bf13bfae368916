"""The linear head as one more row of the vocabulary (`merged-gate/`, docs/export.md).

The head reads the hidden state that the `lm_head` reads. Stored as the row of an id that no tokenizer writes, its w . h
is that id's logit in any engine, with no pass of its own; its bias goes into the threshold.
"""

import math
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from presafe.decision.head import SafetyHead
from presafe.engines.card import VocabularyRow

NEVER = 1e6
"""A logit that no row reaches."""
LARGEST_MULTIPLE = 128


@torch.no_grad()
def write_gate_row(model: Any, tokenizer: PreTrainedTokenizerBase, head: SafetyHead, threshold: float) -> VocabularyRow:
    """Change `model` in place: untied embeddings, the row, and its id in `generation_config.suppress_tokens`."""
    _untie(model)
    free = _unused_ids(model, tokenizer)
    before = model.get_output_embeddings().weight.shape[0]
    if not free:
        free = _add_rows(model)
    token, lm_head = free[-1], model.get_output_embeddings()
    assert lm_head.bias is None
    lm_head.weight[token] = head.linear.weight[0].to(lm_head.weight)
    suppressed = [i for i in free if i >= before] or [token]
    earlier = model.generation_config.suppress_tokens or []
    model.generation_config.suppress_tokens = sorted({*earlier, *suppressed})
    bias = head.linear.bias.item()
    return VocabularyRow(
        token_id=token,
        suppressed=suppressed,
        bias=bias,
        logit_threshold=logit_threshold(threshold, bias),
        probability_error=0.0,
    )


def logit_threshold(threshold: float, bias: float) -> float:
    """The w . h at which sigmoid(w . h + bias) reaches the probability `threshold`."""
    if threshold <= 0:
        return -NEVER
    return NEVER if threshold >= 1 else math.log(threshold) - math.log1p(-threshold) - bias


def _untie(model: Any) -> None:
    lm_head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    model.config.tie_word_embeddings = False
    if lm_head.weight is embeddings.weight:
        lm_head.weight = nn.Parameter(lm_head.weight.clone(), requires_grad=False)


def _unused_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Rows of the `lm_head` that stand for no token, in order."""
    config, generation = model.config, model.generation_config
    named = [
        getattr(settings, f"{kind}_token_id") for settings in (config, generation) for kind in ("bos", "eos", "pad")
    ]
    used = {*tokenizer.get_vocab().values()}
    used |= {i for one in named for i in (one if isinstance(one, list) else [one]) if i is not None}
    return [i for i in range(model.get_output_embeddings().weight.shape[0]) if i not in used]


def _add_rows(model: Any) -> list[int]:
    """One more row, or as many as keep the vocabulary a multiple of the power of two (to 128) that it was of."""
    rows = model.get_output_embeddings().weight.shape[0]
    multiple = min(rows & -rows, LARGEST_MULTIPLE)
    model.resize_token_embeddings(rows + multiple, mean_resizing=False)
    for matrix in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        matrix[rows:] = 0
    return list(range(rows, rows + multiple))
