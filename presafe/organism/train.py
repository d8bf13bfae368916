"""Pre-training from scratch: next-token loss on the responses, AdamW, one pass over the corpus.

Shapes: B sequences of a batch, T tokens of its longest one, D hidden size, N response tokens, V vocabulary.
"""

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.nn import functional
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

from presafe.organism.encoding import Encoded
from presafe.organism.options import Recipe

MAX_POSITIONS = 1024
INITIALIZER_RANGE = 0.04
BETAS = (0.9, 0.98)
WEIGHT_DECAY = 0.01
WARMUP_SHARE = 0.05
FINAL_RATE_SHARE = 0.05
MAX_GRAD_NORM = 1.0
BUCKET_BATCHES = 16
"""Batches that are sorted by length together, so that little is padding."""


@contextmanager
def private_torch(seed: int, threads: int) -> Iterator[None]:
    """torch with `threads` threads and its CPU generator seeded; both are put back at the end."""
    threads_before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(threads)
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            torch.set_num_threads(threads_before)


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A Qwen2 model of the recipe's shape with fresh float32 weights from torch's generator."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_hidden_layers,
        num_attention_heads=recipe.num_attention_heads,
        num_key_value_heads=recipe.num_key_value_heads,
        max_position_embeddings=MAX_POSITIONS,
        initializer_range=INITIALIZER_RANGE,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = Qwen2ForCausalLM(config)
    assert isinstance(model, PreTrainedModel)
    return model


def pretrain(model: PreTrainedModel, data: Sequence[Encoded], recipe: Recipe) -> None:
    """Train `model` in place on `data`, each sequence once, with a progress bar on stderr."""
    order = batches_by_length([len(item.ids) for item in data], recipe.batch_size, f"batches/{recipe.seed}")
    losses = (response_loss(model, [data[index] for index in batch]) for batch in order)
    descend(model, losses, len(order), recipe.learning_rate, "organism: pre-training")


def descend(
    model: PreTrainedModel, losses: Iterator[torch.Tensor], steps: int, learning_rate: float, title: str
) -> None:
    """One optimizer step on each of `losses`, which compute one of `model` when they are asked for it."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    model.train()
    with tqdm(losses, total=steps, desc=title, unit="step") as progress:
        for loss in progress:
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
            optimizer.step()
            schedule.step()
            progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    model.eval()


def response_loss(model: PreTrainedModel, batch: Sequence[Encoded]) -> torch.Tensor:
    """Mean cross-entropy over the batch's N response tokens.

    Padding is on the right, where causal attention keeps it from all real tokens: it needs no mask.
    """
    longest = max(len(item.ids) for item in batch)
    ids_bt = torch.zeros((len(batch), longest), dtype=torch.long)
    is_response_bt = torch.zeros((len(batch), longest), dtype=torch.bool)
    for row, item in enumerate(batch):
        ids_bt[row, : len(item.ids)] = torch.tensor(item.ids)
        is_response_bt[row, item.prompt_length : len(item.ids)] = True
    hidden_btd = model.model(input_ids=ids_bt, use_cache=False).last_hidden_state
    target_bt = is_response_bt[:, 1:]
    logits_nv = model.lm_head(hidden_btd[:, :-1][target_bt])
    return functional.cross_entropy(logits_nv, ids_bt[:, 1:][target_bt])


def batches_by_length(lengths: Sequence[int], size: int, seed: str) -> list[list[int]]:
    """Indices of all sequences once, in random batches of about equal length."""
    rng = random.Random(seed)
    order = rng.sample(range(len(lengths)), len(lengths))
    batches: list[list[int]] = []
    for start in range(0, len(order), size * BUCKET_BATCHES):
        bucket = sorted(order[start : start + size * BUCKET_BATCHES], key=lambda index: lengths[index])
        batches += [bucket[first : first + size] for first in range(0, len(bucket), size)]
    rng.shuffle(batches)
    return batches


def _rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up times a cosine that ends at FINAL_RATE_SHARE."""
    warmup = min(1.0, (step + 1) / (WARMUP_SHARE * steps))
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return warmup * (FINAL_RATE_SHARE + (1 - FINAL_RATE_SHARE) * cosine)
