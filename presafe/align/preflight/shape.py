"""Sizes of an architecture, from its Hugging Face config alone: built on the meta device, without a weight."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig

from presafe.config import Lora
from presafe.engines.model_config import read_config
from presafe.errors import user_error


@dataclass(frozen=True)
class Shape:
    """Counts are elements, not bytes. Sums over adapted layers run over all linear layers that get a LoRA adapter."""

    architecture: str
    parameters: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    query: int
    """Width of all query heads together."""
    key_value: int
    """Width of all key heads, or value heads, together."""
    normalised_heads: bool
    """Whether queries and keys have a norm of their own (Qwen3)."""
    tied: bool
    largest_module: int
    """Parameters of the largest module that ZeRO-3 gathers at once: a decoder layer or the embedding."""
    adapted: int
    """Linear layers with an adapter, in the whole model."""
    adapted_widths: int
    """Sum of input and output widths over them: LoRA's parameters are its rank times this."""
    adapted_inputs: int
    """Sum of the input widths over those of one decoder layer."""

    def trainable(self, lora: Lora | None) -> int:
        """Parameters that train, the safety head's left out."""
        return self.parameters if lora is None else lora.r * self.adapted_widths

    @property
    def matrix_parameters(self) -> int:
        """Parameters that multiply every token: all but an embedding that is only looked up."""
        return self.parameters - (0 if self.tied else self.vocabulary * self.hidden)


def read_shape(base: str, lora: Lora | None) -> Shape:
    """Shape of the model in folder, URL or hub name `base`, of which only config.json is read.

    Raises UserError where there is no such file, or where a LoRA target is no linear layer of the model.
    """
    return shape_of(read_config(base), lora)


def shape_of(config: PreTrainedConfig, lora: Lora | None) -> Shape:
    """Shape of `config`'s causal language model."""
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
    decoder = model.base_model
    linears = {name: m for name, m in decoder.named_modules() if isinstance(m, nn.Linear)}
    adapted = [linears[name] for name in adapted_names(list(linears), lora)]
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    embedding = config.vocab_size * config.hidden_size
    return Shape(
        architecture=config.model_type,
        parameters=sum(p.numel() for p in model.parameters()),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        vocabulary=config.vocab_size,
        query=heads * head_dim,
        key_value=config.num_key_value_heads * head_dim,
        normalised_heads=any(name.endswith("q_norm") for name, _ in decoder.named_modules()),
        tied=bool(config.tie_word_embeddings),
        largest_module=max(embedding, *(sum(p.numel() for p in layer.parameters()) for layer in decoder.layers)),
        adapted=len(adapted),
        adapted_widths=sum(linear.in_features + linear.out_features for linear in adapted),
        adapted_inputs=sum(linear.in_features for linear in adapted) // config.num_hidden_layers,
    )


def adapted_names(linears: list[str], lora: Lora | None) -> list[str]:
    """Names of the linear layers that get an adapter. Raises UserError for a target that names none."""
    if lora is None:
        return []
    for target in lora.target_modules:
        if not any(name.rpartition(".")[2] == target for name in linears):
            raise user_error(
                found=f"align.lora.target_modules {target!r}, which no linear layer of the model is called",
                needed=f"names among {', '.join(sorted({name.rpartition('.')[2] for name in linears}))}",
                change="correct align.lora.target_modules",
            )
    return [name for name in linears if name.rpartition(".")[2] in lora.target_modules]
