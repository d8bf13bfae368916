"""Small real things that tests share: a random Qwen2, training examples of uneven length."""

import asyncio
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from presafe.config import Align, Lora
from presafe.records import Example

VOCABULARY = 128
Result = TypeVar("Result")


def random_qwen2(vocab_size: int, hidden_size: int = 32, **changes: object) -> Qwen2ForCausalLM:
    """A Qwen2 of two layers with random weights, always the same ones."""
    torch.manual_seed(0)
    shape = {
        "intermediate_size": 2 * hidden_size,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        **changes,
    }
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=vocab_size, hidden_size=hidden_size, **shape))


def save_random_model(folder: str) -> str:
    """A random Qwen2 in `folder`, without a tokenizer."""
    random_qwen2(VOCABULARY).save_pretrained(folder)
    return folder


def uneven_examples(count: int = 48, seed: int = 0) -> list[Example]:
    """Short refusals mixed with long chains of thought, and some prompts that train the signal alone."""
    draw = np.random.default_rng(seed)
    examples = []
    for k in range(count):
        prompt = draw.integers(3, VOCABULARY, int(draw.integers(4, 20))).tolist()
        length = (0, int(draw.integers(1, 4)), int(draw.integers(30, 60)))[k % 3]
        completion = draw.integers(3, VOCABULARY, length).tolist()
        path = "think" if length > 4 else "refuse"
        examples.append(Example(f"p{k}", prompt, completion, path, float(draw.random())))
    return examples


def small_align(**changes: object) -> Align:
    settings = {
        "lora": Lora(r=4, alpha=8),
        "learning_rate": 0.05,
        "steps": 10,
        "batch_size": 8,
        "micro_batch_tokens": 96,
        "gradient_checkpointing": False,
        **changes,
    }
    return Align.model_validate(settings)


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run it in the one event loop of all tests: an engine outlives a test, and speaks to the loop that it met."""
    return _runner().run(coroutine)


@cache
def _runner() -> asyncio.Runner:
    return asyncio.Runner()
