"""How far an alignment moved each matrix of the model: the paper's Fig. 5.

A matrix is [out, in]. `relative` is |change|_F / |weight|_F, Frobenius norms, of float32 values.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import safe_open

from presafe import storage

LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.(?:.*\.)?(\w+)\.weight$")
PEFT = "base_model.model."
DOWN, UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class Update:
    """Of one matrix: decoder layer, counted from 1, name of its projection, and how far it moved."""

    layer: int
    projection: str
    relative: float


def of_adapter(weights: Mapping[str, torch.Tensor], folder: str) -> Iterator[Update]:
    """Of the LoRA adapter in the local `folder`: change = scale * B A, whose norm is that of two matrices [r, r].

    `weights` are the base's by name. Tensors are read one by one.
    """
    settings = storage.read_json(storage.join(folder, "adapter_config.json"))
    with safe_open(storage.join(folder, "adapter_model.safetensors"), "pt") as tensors:
        for name in sorted(tensors.keys()):
            if name.endswith(DOWN):
                down = tensors.get_tensor(name).float()
                up = tensors.get_tensor(name.removesuffix(DOWN) + UP).float()
                product = float(((up.T @ up) * (down @ down.T)).sum().clamp(min=0).sqrt())
                change = scale_of(settings, len(down)) * product
                yield from _update(weights, name.removeprefix(PEFT).removesuffix(DOWN) + ".weight", change)


def of_full_weights(weights: Mapping[str, torch.Tensor], folder: str) -> Iterator[Update]:
    """Of the whole model in the local `folder`, against `weights`, the base's by name; read one by one."""
    for file in sorted(name for name in storage.names(folder) if name.endswith(".safetensors")):
        with safe_open(storage.join(folder, file), "pt") as tensors:
            for name in sorted(tensors.keys()):
                if name in weights and LAYER.search(name):
                    own = tensors.get_tensor(name).float()
                    change = float((own - weights[name].float().cpu()).norm())
                    yield from _update(weights, name, change)


def scale_of(settings: Mapping[str, Any], rank: int) -> float:
    """alpha / r of an adapter's configuration, or alpha / sqrt(r) of a rank-stabilised one."""
    divisor = rank**0.5 if settings.get("use_rslora") else rank
    return float(settings["lora_alpha"] / divisor)


def by_projection(updates: Sequence[Update]) -> dict[str, list[float | None]]:
    """`relative` by projection, of layers 1 to the last; None where a layer has no such matrix that was trained."""
    layers = max(update.layer for update in updates)
    found: dict[str, list[float | None]] = defaultdict(lambda: [None] * layers)
    for update in updates:
        found[update.projection][update.layer - 1] = update.relative
    return dict(found)


def _update(weights: Mapping[str, torch.Tensor], name: str, change: float) -> Iterator[Update]:
    place = LAYER.search(name)
    if place and name in weights and weights[name].dim() == 2:
        norm = float(weights[name].float().norm())
        yield Update(int(place[1]) + 1, place[2], change / norm if norm else 0.0)
