"""What the alignment benchmarks train: a random Qwen2, and short refusals mixed with long traces.

Both sides take the same model folder, sequences, adapters, global batch and AdamW, in float32 on one thread, and train
on the completions alone.
"""

import random

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from presafe.config import Lora
from presafe.records import Example

VOCABULARY = 32_000
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LORA = Lora(r=16, alpha=32, target_modules=PROJECTIONS)
BATCH = 16
LEARNING_RATE = 1e-4


def save_model(folder: str) -> str:
    """About 22M parameters, of which 12M are embeddings."""
    torch.manual_seed(0)
    shape = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2, "tie_word_embeddings": True}
    ids = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
    Qwen2ForCausalLM(Qwen2Config(vocab_size=VOCABULARY, **shape, **heads, **ids)).save_pretrained(folder)
    return folder


def examples(count: int, *, pool: int = 0, seed: int = 0) -> list[Example]:
    """Three of four are refusals of 20 tokens, the others traces of 400 to 1000, behind prompts of about 60.

    `pool` more have no completion.
    """
    draw = random.Random(seed)

    def tokens(length: int) -> list[int]:
        return [draw.randrange(3, VOCABULARY) for _ in range(length)]

    lengths = [20 if k % 4 else draw.randint(400, 1000) for k in range(count)] + [0] * pool
    prompts = [draw.randint(40, 80) for _ in lengths]
    paths = ["refuse" if length == 20 else "think" for length in lengths]
    return [
        Example(str(k), tokens(prompt), tokens(length), path, draw.random())  # type: ignore[arg-type]
        for k, (prompt, length, path) in enumerate(zip(prompts, lengths, paths, strict=True))
    ]
