"""The classifier's loss: binary cross-entropy to the teacher's refuse share, summed over ranks to the batch's mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import PreTrainedTokenizerBase

from presafe.signals.classifier import logits


@dataclass(frozen=True)
class Labelled:
    """One query with its label: the share of the teacher's samples that refused it."""

    prompt_id: str
    source: str
    text: str
    label: float


@dataclass(frozen=True)
class ClassWeights:
    """Weights of the two terms of the cross-entropy, refuse and comply."""

    refuse: float = 1.0
    comply: float = 1.0


def balanced(labels: Sequence[float]) -> ClassWeights:
    """Weights that give both decisions the same total and keep the mean weight at 1; soft labels count in part."""
    refused = sum(labels)
    return ClassWeights(len(labels) / (2 * refused), len(labels) / (2 * (len(labels) - refused)))


def weighted_bce(scores: torch.Tensor, labels: torch.Tensor, weights: ClassWeights) -> torch.Tensor:
    """Sum of `-(w_refuse y log p + w_comply (1 - y) log(1 - p))` over the rows; both of shape [rows]."""
    ratio = torch.tensor(weights.refuse / weights.comply, device=scores.device)
    return weights.comply * binary_cross_entropy_with_logits(scores, labels, pos_weight=ratio, reduction="sum")


def rank_loss(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    batch: Sequence[Labelled],
    weights: ClassWeights,
    max_tokens: int,
    rank: int,
    world: int,
) -> torch.Tensor:
    """This rank's share of a global batch, scaled so that the average over ranks is the mean over the batch.

    DDP averages gradients over ranks and needs a backward pass of each of them, so a rank without a row takes the
    first one at weight 0.
    """
    own = batch[rank::world]
    rows = own or batch[:1]
    scores = logits(model, tokenizer, [row.text for row in rows], max_tokens)
    labels = torch.tensor([row.label for row in rows], device=scores.device)
    return weighted_bce(scores, labels, weights) * (world / len(batch) if own else 0.0)
