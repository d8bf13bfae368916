"""One optimizer step over all micro-batches of a rank."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from presafe.align.module.collate import Collator
from presafe.align.resume.agreed import AgreedError
from presafe.align.train.loss import LossWeights, parts_of_step, share_of_step, step_counts, weighted
from presafe.align.train.plan import BatchPlan
from presafe.align.train.rows import ExampleRows


@dataclass(frozen=True)
class StepMetrics:
    """Losses of a step over all ranks, each normalised as trained; `grad_norm` before clipping; tokens processed."""

    loss: float
    lm_loss: float
    align_loss: float
    anchor_loss: float
    grad_norm: float
    tokens: int
    target_tokens: int


class NonFiniteLossError(AgreedError):
    """The loss or the gradient of a step is not a number."""


def train_step(
    engine: Any, examples: ExampleRows, plan: BatchPlan, step: int, weights: LossWeights, collator: Collator
) -> StepMetrics:
    """Forward, backward and update on step `step` of the plan; every rank calls it with the same arguments.

    Of the examples a rank reads those of its own micro-batches.

    Raises NonFiniteLossError on every rank: where the loss is not finite before the weights change, with the ids of the
    prompts at fault; where only the gradient is not, after the update and with the ids of the whole step.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    chosen = plan.sequences(step)
    counts = step_counts(examples, chosen)
    total = torch.zeros(3, dtype=torch.float64, device=engine.device)
    suspects: list[str] = []
    for indices in plan.microbatches(step, world)[rank]:
        batch = collator.pack([examples[i] for i in indices])
        sums = engine(**batch.to(engine.device)).sums
        # The loss is already the step's: DeepSpeed must not divide it by a number of micro-batches again.
        engine.backward(share_of_step(sums, counts, weights, world), scale_wrt_gas=False)
        if not torch.isfinite(sums).all():
            suspects += [examples[i].prompt_id for i in indices]
        total += sums.detach().double()
    dist.all_reduce(total)
    if not torch.isfinite(total).all():
        _stop("loss", step, total, suspects)
    engine.step()
    grad_norm = float(engine.get_global_grad_norm())
    if not math.isfinite(grad_norm):
        _stop("gradient", step, total, [examples[i].prompt_id for i in chosen])
    parts = parts_of_step(total, counts)
    return StepMetrics(
        loss=weighted(parts, weights).item(),
        lm_loss=parts[0].item(),
        align_loss=parts[1].item(),
        anchor_loss=parts[2].item(),
        grad_norm=grad_norm,
        tokens=int(plan.lengths[chosen].sum()),
        target_tokens=counts.target_tokens,
    )


def _stop(what: str, step: int, total: torch.Tensor, suspects: list[str]) -> None:
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, suspects)
    lm, align, anchor = total.tolist()
    ids = sorted({prompt for part in everyone for prompt in part})
    raise NonFiniteLossError(
        f"found a {what} that is not finite at step {step + 1} (sums: lm {lm}, align {align}, anchor {anchor}); "
        f"needed numbers; look at the examples of prompt ids {', '.join(ids)}, or lower align.learning_rate"
    )
