"""Weights and cache of an engine, predicted before a stage starts: refused with the nearest setting where no room is.

The cache holds keys and values of all layers, for every token of the completions that are on their way together. An
engine that batches (`transformers`) pads them all to the longest one; the others (`paged`, `vllm`) hold the tokens that
are there, and need room for one conversation at least.
"""

import logging
import math
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM

from presafe.cluster.capacity import GB, Capacity, cluster_capacity
from presafe.cluster.demand import pool_size
from presafe.config import Decoding, Engine, HttpSettings, PagedSettings, Pool, TransformersSettings, VllmSettings
from presafe.engines.exported import split_adapter
from presafe.engines.model_config import read_config
from presafe.errors import user_error

logger = logging.getLogger("presafe")

Local = TransformersSettings | PagedSettings | VllmSettings
"""Engines that hold the model themselves."""

ON_A_GPU, ON_A_CPU = 2e9, 0.5e9
"""Bytes of a worker beside weights and cache: CUDA's context, activations, logits, the process."""
FREE_OF_PROMPTS = 0.85
"""Share of a paged cache that its scheduler fills with prompts."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of a model: its weights, and keys and values of one token."""

    weights: float
    token: float


def footprint(model: str, dtype: str) -> Footprint:
    """Of the model, or adapter, in folder, URL or hub name `model`, of which config.json alone is read."""
    config = read_config(split_adapter(model)[0])
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(config)
    text = config.get_text_config()
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(torch, dtype).itemsize
    return Footprint(
        weights=sum(parameter.numel() for parameter in built.parameters()) * size,
        token=2 * text.num_hidden_layers * heads * head * size,
    )


def check_engine_memory(
    section: str, engine: Engine, workers: Pool, model: str, dtype: str, decoding: Decoding
) -> None:
    """Raise UserError where a worker of `section` (`teacher.engine`, say) would not hold weights and cache."""
    if isinstance(engine, HttpSettings):
        return
    actors = pool_size(workers)
    capacity = cluster_capacity(workers, actors, section.partition(".")[0])
    refuse_misfit(section, engine, footprint(model, dtype), decoding.max_new_tokens, capacity, actors)


def refuse_misfit(
    section: str, engine: Local, model: Footprint, new_tokens: int, capacity: Capacity, actors: int
) -> None:
    """Raise UserError with the prediction, what there is, and the nearest setting that fits."""
    parts = engine.tensor_parallel_size if isinstance(engine, VllmSettings) else 1
    room = _room(engine, capacity, actors)
    if room is None:
        return
    beside = ON_A_CPU if capacity.device is None else ON_A_GPU
    longest = engine.max_prompt_tokens + new_tokens
    cache, free = _cached(engine, longest) * model.token, (room - beside) * parts - model.weights
    if cache <= free:
        logger.info("%s: predicted %.2f GB for weights, %.2f GB for the cache", section, model.weights / GB, cache / GB)
        return
    place = "of a node's memory" if capacity.device is None else f"on {parts} GPU(s)"
    raise user_error(
        found=f"{section} that needs {model.weights / GB:.1f} GB for weights and {cache / GB:.1f} GB for the cache of "
        f"{_described(engine, longest)}",
        needed=f"at most {max(0.0, (room - beside) * parts) / GB:.1f} GB {place}, what a worker has",
        change=_nearest(section, engine, longest, free / model.token),
    )


def _room(engine: Local, capacity: Capacity, actors: int) -> float | None:
    """Bytes of one worker, on one GPU or as its share of a node; None where nothing is known."""
    if capacity.device is not None:
        share = engine.gpu_memory_utilization if isinstance(engine, VllmSettings) else 1.0
        return capacity.device * share
    shares = [memory / min(slots, actors) for slots, memory in capacity.nodes]
    return max(shares, default=None)


def _cached(engine: Local, longest: int) -> float:
    """Tokens that the cache must hold."""
    if isinstance(engine, TransformersSettings):
        return engine.batch_size * longest
    if isinstance(engine, PagedSettings):
        return max(engine.kv_cache_tokens or 0, longest / FREE_OF_PROMPTS)
    return longest


def _described(engine: Local, longest: int) -> str:
    if isinstance(engine, TransformersSettings):
        return f"{engine.batch_size} sequences of {longest} tokens"
    if isinstance(engine, PagedSettings) and engine.kv_cache_tokens:
        return f"{engine.kv_cache_tokens} tokens"
    return f"one conversation of {longest} tokens"


def _nearest(section: str, engine: Local, longest: int, free: float) -> str:
    """The nearest setting that fits, where `free` tokens of cache do."""
    tokens = math.floor(free)
    if isinstance(engine, TransformersSettings) and tokens >= longest:
        paged = f", or {section}.kind=paged, which holds the tokens that are there" if engine.batch_size > 1 else ""
        return f"set {section}.batch_size={tokens // longest}{paged}"
    if isinstance(engine, PagedSettings) and engine.kv_cache_tokens and FREE_OF_PROMPTS * tokens >= longest:
        return f"set {section}.kv_cache_tokens={tokens}"
    if tokens > engine.max_prompt_tokens:
        return f"lower max_new_tokens to {math.floor(tokens * FREE_OF_PROMPTS) - engine.max_prompt_tokens}"
    return "take workers with more memory, split the model (kind vllm, tensor_parallel_size), or a smaller one"
