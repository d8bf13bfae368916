"""A model for `make bench-serve`: 94M random weights of Qwen3's shape, a vocabulary of 32k, exported with a head."""

import os
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerBase, Qwen2Tokenizer, Qwen3Config, Qwen3ForCausalLM

from presafe.decision.head import SafetyHead, save_head
from presafe.engines.card import Card, write_card
from presafe.organism.tokenizer import CHAT_TEMPLATES, THINK_TAGS

VOCABULARY, CONTEXT = 32_768, 4096
HIDDEN = 640
PROMPT_WORDS = 20
"""Words of a prompt, which are about 120 tokens."""


def save_model(folder: str) -> str:
    """`folder`, with the export `model/` in it. Greedy completions of such a model never end by themselves."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=4 * HIDDEN,
        num_hidden_layers=12,
        num_attention_heads=10,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config)
    make_endless(model, tokenizer)
    export = f"{folder}/model"
    model.save_pretrained(f"{export}/full")
    tokenizer.save_pretrained(f"{export}/full")
    head = SafetyHead(HIDDEN)
    save_head(head.linear.state_dict(), f"{export}/safety_head.safetensors")
    os.makedirs(export, exist_ok=True)
    write_card(export, random_card("float32"))
    return export


def make_endless(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """End of sequence, think tags and ids without a token are never the most probable: no greedy completion ends."""
    weight = model.lm_head.weight.data
    silent = [tokenizer.eos_token_id, *tokenizer.convert_tokens_to_ids(list(THINK_TAGS))]
    weight[[*silent, *range(len(tokenizer), len(weight))]] = 0


def random_card(dtype: str) -> Card:
    return Card(
        base_model="random",
        dtype=dtype,
        weights="full",
        think_format={},
        threshold=0.5,
        max_over_refusal=0.01,
        refusal="I cannot help with that.",
        config_hash="benchmark",
        metrics={},
    )


def prompts(count: int, seed: int = 0) -> list[str]:
    """Different texts of one length."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(0, 20_000, (count, PROMPT_WORDS), generator=generator).tolist()
    return [" ".join(f"w{word}" for word in row) for row in words]


def byte_tokenizer() -> PreTrainedTokenizerBase:
    """Reads bytes, and writes bytes and words."""
    words = [f"Ġw{k}" for k in range(VOCABULARY - 1000)]
    vocab = {text: index for index, text in enumerate([*sorted(ByteLevel.alphabet()), *words])}
    tokenizer = Qwen2Tokenizer(
        vocab=vocab, merges=[], eos_token="<|im_end|>", pad_token="<|endoftext|>", extra_special_tokens=["<|im_start|>"]
    )
    tokenizer.add_tokens(list(THINK_TAGS))
    tokenizer.chat_template = CHAT_TEMPLATES["r1"]
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer
