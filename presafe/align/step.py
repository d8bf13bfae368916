"""One optimizer step over all micro-batches of a rank."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from presafe.align.collate import pack, step_counts
from presafe.align.loss import share_of_step
from presafe.align.plan import BatchPlan
from presafe.records import Example


@dataclass(frozen=True)
class StepMetrics:
    """Losses of a step over all ranks, each normalised as trained; `grad_norm` before clipping."""

    loss: float
    lm_loss: float
    align_loss: float
    grad_norm: float


def train_step(
    engine: Any, examples: Sequence[Example], plan: BatchPlan, step: int, *, weight: float, pad_id: int
) -> StepMetrics:
    """Forward, backward and update on step `step` of the plan; every rank calls it with the same arguments."""
    rank, world = dist.get_rank(), dist.get_world_size()
    counts = step_counts([examples[i] for i in plan.sequences(step)])
    sums = torch.zeros(2, dtype=torch.float64, device=engine.device)
    for indices in plan.microbatches(step, world)[rank]:
        batch = pack([examples[i] for i in indices], pad_id)
        output = engine(**batch.to(engine.device))
        # The loss is already the step's: DeepSpeed must not divide it by a number of micro-batches again.
        engine.backward(share_of_step(output, counts, weight, world), scale_wrt_gas=False)
        sums += torch.stack([output.lm.detach(), output.align.detach()]).double()
    engine.step()
    dist.all_reduce(sums)
    lm, align = sums[0].item() / max(counts.target_tokens, 1), sums[1].item() / counts.sequences
    if not torch.isfinite(sums).all():
        ids = [examples[i].prompt_id for i in plan.sequences(step)]
        raise FloatingPointError(f"loss is not finite at step {step + 1} (lm {lm}, align {align}); prompt ids {ids}")
    return StepMetrics(lm + weight * align, lm, align, float(engine.get_global_grad_norm() or 0.0))
