"""The formulas of activations and logits against PyTorch's record of every allocation, on the recipes' families."""

from typing import Any

import pytest
import torch
from deepspeed.runtime.chunked_cross_entropy import chunked_cross_entropy
from peft import LoraConfig, get_peft_model
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen2Config, Qwen3Config

from presafe.align.activations import activations, logits
from presafe.align.shape import shape_of
from presafe.config import Align

TOKENS = 512
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


def peak(shape: PreTrainedConfig, align: Align, targets: int) -> int:
    """Most bytes alive at a time in a forward and backward pass over two packed sequences, weights left out."""
    torch.manual_seed(0)
    causal: Any = AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16)
    if align.gradient_checkpointing:
        causal.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model = causal
    if align.lora is not None:
        model = get_peft_model(causal, LoraConfig(r=align.lora.r, target_modules=align.lora.target_modules))
    for parameter in model.train().parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    ids = torch.zeros(1, TOKENS, dtype=torch.long)
    positions = torch.arange(TOKENS // 2).repeat(2)[None]

    def run() -> None:
        hidden = causal.base_model(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state[0]
        chunked_cross_entropy(causal.lm_head(hidden[:targets]), ids[0, :targets], reduction="sum").backward()

    run()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    alive = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        most = max(most, alive)
    return most


@pytest.mark.parametrize("checkpointing", [True, False], ids=["checkpointing", "kept"])
@pytest.mark.parametrize("lora", [{"r": 16}, None], ids=["lora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_need_what_the_formulas_say(family, lora, checkpointing):
    align = Align.model_validate({"lora": lora, "gradient_checkpointing": checkpointing})
    shape = config(family)
    predicted = activations(shape_of(shape, align.lora), align, 2, TOKENS, 0)
    assert peak(shape, align, targets=4) == pytest.approx(predicted.saved + predicted.layer, rel=0.08)


@pytest.mark.parametrize("lora", [{"r": 16}, None], ids=["lora", "full"])
def test_logits_and_their_gradient_are_what_a_large_vocabulary_adds(lora):
    align = Align.model_validate({"lora": lora})
    small, large = 16_000, 24_000
    found = peak(config("qwen2", large), align, TOKENS) - peak(config("qwen2", small), align, TOKENS)
    assert found == pytest.approx(logits(large, 2, TOKENS) - logits(small, 2, TOKENS), rel=0.03)
