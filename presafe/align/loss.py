"""L = L_LM + weight * L_align, normalised once over the whole optimizer step (docs/method.md; paper, Fig. 3)."""

from dataclasses import dataclass

import torch

from presafe.align.model import Sums


@dataclass(frozen=True)
class StepCounts:
    """What one optimizer step holds over all ranks and micro-batches."""

    target_tokens: int
    sequences: int


def share_of_step(sums: Sums, counts: StepCounts, weight: float, world_size: int) -> torch.Tensor:
    """A micro-batch's share of the step's loss, scaled so that DeepSpeed's average over ranks sums the shares.

    A mean per micro-batch would weigh a token of a short refusal like many tokens of a long chain-of-thought; measured,
    its gradient norm was off by up to 136 %.
    """
    lm = sums.lm / max(counts.target_tokens, 1)
    align = sums.align / counts.sequences
    return world_size * (lm + weight * align)
