"""The formulas of activations and logits against PyTorch's record of every allocation, on the recipes' families."""

from functools import partial
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from presafe.align.module.build import equip, head_spec, trained
from presafe.align.module.collate import Collator
from presafe.align.module.cross_entropy import BLOCK
from presafe.align.module.kernels import attention, varlen_attention
from presafe.align.preflight.activations import Activations, activations
from presafe.align.preflight.shape import shape_of
from presafe.config import Align
from presafe.engines.attention import attention_by_sequence
from presafe.records import Example

TOKENS = 512
COLLATOR = Collator(pad_id=0, block=(5, 6, 7, 8), shared=1)
SIZES = {
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}
FAMILIES: dict[str, type[PreTrainedConfig]] = {"qwen2": Qwen2Config, "qwen3": Qwen3Config, "llama": LlamaConfig}


def config(family: str, vocabulary: int = 1000, layers: int = 2) -> PreTrainedConfig:
    head = {} if family == "qwen2" else {"head_dim": 64}
    return FAMILIES[family](vocab_size=vocabulary, num_hidden_layers=layers, **SIZES, **head)


def two_sequences(targets: int) -> list[Example]:
    """Of TOKENS together, the last `targets` of each to be predicted."""
    length = TOKENS // 2
    return [Example(str(k), [1] * (length - targets), [2] * targets, "think", 0.5) for k in range(2)]


def peak(config: PreTrainedConfig, align: Align, rows: list[Example], implementation: str | None = None) -> int:
    """Most bytes alive at a time in a forward and backward pass over the packed rows, beside weights and gradients."""
    torch.manual_seed(0)
    lm: Any = AutoModelForCausalLM.from_config(
        config, dtype=torch.bfloat16, attn_implementation=implementation or attention(align, "bfloat16")
    )
    module = equip(lm, align, head_spec(align, decision_token=6), seed=0)
    for parameter in trained(module):
        parameter.grad = torch.zeros_like(parameter)
    batch = COLLATOR.pack(rows).to(torch.device("cpu"))
    module(**batch).sums.sum().backward()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        module(**batch).sums.sum().backward()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    alive = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        most = max(most, alive)
    return most


def predicted(config: PreTrainedConfig, align: Align) -> Activations:
    return activations(shape_of(config, align.lora), align, 2, TOKENS, 0, BLOCK["cpu"])


@pytest.mark.parametrize("checkpointing", [True, False], ids=["checkpointing", "kept"])
@pytest.mark.parametrize("lora", [{"r": 16}, None], ids=["lora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_need_what_the_formulas_say(family, lora, checkpointing):
    align = Align.model_validate({"lora": lora, "gradient_checkpointing": checkpointing})
    expected = predicted(config(family), align)
    found = peak(config(family), align, two_sequences(targets=2))
    assert found == pytest.approx(expected.saved + expected.layer, rel=0.08)


def test_key_value_heads_that_a_kernel_needs_repeated_are_counted():
    def kernel(query, key, value, offsets, *_, scale, window_size):
        assert window_size == (-1, 0)
        states = (each.transpose(0, 1)[None] for each in (query, key, value))
        lengths = offsets.diff().tolist()
        return attention_by_sequence(*states, lengths, lengths, scaling=scale)[0]

    AttentionInterface.register("repeated", partial(varlen_attention, kernel))
    align = Align.model_validate({"lora": {"r": 16}, "gradient_checkpointing": False})
    shape, rows = shape_of(config("qwen2"), align.lora), two_sequences(targets=2)
    with_repeats, without = (
        activations(shape, align, 2, TOKENS, 0, BLOCK["cpu"], repeated=repeated).saved for repeated in (True, False)
    )
    found = peak(config("qwen2"), align, rows, "repeated") - peak(config("qwen2"), align, rows)
    assert found == pytest.approx(with_repeats - without, rel=0.15)


@pytest.mark.parametrize("vocabulary", [8_000, 24_000], ids=["one block", "several"])
@pytest.mark.parametrize("lora", [{"r": 16}, None], ids=["lora", "full"])
def test_the_loss_of_a_large_vocabulary_needs_what_the_formulas_say(lora, vocabulary):
    align = Align.model_validate({"lora": lora})
    large = config("qwen2", vocabulary)
    expected = predicted(large, align)
    assert expected.logits > 1.2 * expected.layer
    with torch.backends.mkldnn.flags(enabled=False):  # oneDNN's products take scratch space that depends on the CPU
        found = peak(large, align, two_sequences(targets=TOKENS // 2 - 1))
    assert found == pytest.approx(expected.peak, rel=0.03)
