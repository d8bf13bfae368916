"""Forward passes over prompts of uneven length, for readers of hidden states.

Shapes: B prompts of a batch, T tokens of its longest one, D hidden size. Prompts are padded on the right: with causal
attention no token sees what stands behind it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

Ids = Sequence[int]


def batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Places of prompts, by length: as many a batch as have room in `most` tokens with their padding, one at least."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda k: lengths[k]):
        if batch and lengths[place] * (len(batch) + 1) > most:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


@torch.inference_mode()
def hidden_states(model: Any, prompts: Sequence[Ids], layer: int = -1) -> torch.Tensor:
    """[B, T, D] behind decoder layer `layer`, counted from 1; -1 is behind the final norm."""
    ids, mask = _padded(prompts, model.device)
    output = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False, output_hidden_states=layer != -1)
    found: torch.Tensor = output.last_hidden_state if layer == -1 else output.hidden_states[layer]
    return found


@torch.inference_mode()
def last_states(model: Any, prompts: Sequence[Ids], most: int, layer: int = -1) -> torch.Tensor:
    """[n, D] at the last token of each prompt, on the model's device; `most` tokens are read together."""
    found: dict[int, torch.Tensor] = {}
    for batch in batches([len(prompt) for prompt in prompts], most):
        states = hidden_states(model, [prompts[place] for place in batch], layer)
        found |= {place: states[row, len(prompts[place]) - 1] for row, place in enumerate(batch)}
    return torch.stack([found[place] for place in range(len(prompts))])


@torch.inference_mode()
def last_states_of_layers(model: Any, prompts: Sequence[Ids], most: int) -> torch.Tensor:
    """[L, n, D] behind each decoder layer at the last token of each prompt, float32 on the CPU; the last of the L is
    behind the final norm. `most` tokens are read together."""
    found: dict[int, torch.Tensor] = {}
    for batch in batches([len(prompt) for prompt in prompts], most):
        ids, mask = _padded([prompts[place] for place in batch], model.device)
        states = model.base_model(
            input_ids=ids, attention_mask=mask, use_cache=False, output_hidden_states=True
        ).hidden_states[1:]
        rows, ends = torch.arange(len(batch)), torch.tensor([len(prompts[place]) - 1 for place in batch])
        ends_of_all = torch.stack([layer[rows, ends].float().cpu() for layer in states])
        found |= {place: ends_of_all[:, row] for row, place in enumerate(batch)}
    return torch.stack([found[place] for place in range(len(prompts))], dim=1)


def positions(model: Any) -> int:
    """The longest prompt that the model has positions for."""
    return int(model.config.get_text_config().max_position_embeddings)


def device(*, on_gpu: bool) -> str:
    return "cuda" if on_gpu else "cpu"


def _padded(prompts: Sequence[Ids], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, [B, T] both."""
    width = max(map(len, prompts))
    ids = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts], device=device)
    return ids, torch.tensor([[1] * len(p) + [0] * (width - len(p)) for p in prompts], device=device)
