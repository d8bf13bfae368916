"""L = L_LM + weight * (L_align + kl_weight * L_anchor), normalised once over the whole step (paper, Fig. 3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from presafe.align.train.rows import ExampleRows
from presafe.config import Align, ReadoutHead
from presafe.schedule import schedule


@dataclass(frozen=True)
class StepCounts:
    """What one optimizer step holds over all ranks and micro-batches: the denominators of its losses."""

    target_tokens: int
    signals: int
    without_completion: int


@dataclass(frozen=True)
class LossWeights:
    """Weights of the signals' loss and, inside it, of the readout head's anchor to the base."""

    align: float
    anchor: float = 0.0


def step_counts(examples: ExampleRows, chosen: Sequence[int]) -> StepCounts:
    """Of the chosen examples."""
    targets = examples.completion_tokens[chosen]
    return StepCounts(
        target_tokens=int(targets.sum()),
        signals=int(examples.signalled[chosen].sum()),
        without_completion=int((targets == 0).sum()),
    )


def parts_of_step(sums: torch.Tensor, counts: StepCounts) -> torch.Tensor:
    """(L_LM, L_align, L_anchor), shape [3], of their sums: means over target tokens, signals, pool sequences."""
    denominators = [counts.target_tokens, counts.signals, counts.without_completion]
    return sums / sums.new_tensor([max(count, 1) for count in denominators])


def weighted(parts: torch.Tensor, weights: LossWeights) -> torch.Tensor:
    """The step's loss, or a micro-batch's share of it, of its three parts."""
    lm, align, anchor = parts.unbind()
    return lm + weights.align * (align + weights.anchor * anchor)


def share_of_step(sums: torch.Tensor, counts: StepCounts, weights: LossWeights, world_size: int) -> torch.Tensor:
    """A micro-batch's share of the step's loss, scaled so that DeepSpeed's average over ranks sums the shares.

    A mean per micro-batch would weigh a token of a short refusal like many tokens of a long chain-of-thought; measured,
    its gradient norm was off by up to 136 %.
    """
    return world_size * weighted(parts_of_step(sums, counts), weights)


def loss_weights(align: Align, step: int) -> LossWeights:
    """Weights at a step (from 0)."""
    anchor = align.head.kl_weight if isinstance(align.head, ReadoutHead) else 0.0
    return LossWeights(align.weight * schedule(align.weight_schedule, align.steps)(step), anchor)
