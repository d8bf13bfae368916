"""The stage's training in plain PyTorch, to hold DeepSpeed's against.

One process, one sequence at a time, logits everywhere, losses as on paper. Nothing is shared with the packed forward
but the weights at the start and the plan's choice of sequences.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import AutoModelForCausalLM

from presafe.align.module.build import build_module
from presafe.align.module.collate import Collator
from presafe.align.module.model import HeadSpec, PreSafeModel
from presafe.config import Align
from presafe.records import Example

Steps = Sequence[Sequence[Example]]
"""The sequences of each optimizer step."""


@dataclass(frozen=True)
class Row:
    """One step: the loss and its parts, each a mean, and the norm of the loss's gradient before clipping."""

    loss: float
    lm_loss: float
    align_loss: float
    anchor_loss: float
    grad_norm: float


@dataclass(frozen=True)
class Plain:
    """The training of `align` on `base`: weights as build_module makes them from `seed`, in float32."""

    base: str
    align: Align
    spec: HeadSpec
    seed: int
    collator: Collator
    weights: Callable[[int], tuple[float, float]]
    """Weight of L_align and, inside it, of L_anchor at a step."""

    def train(
        self,
        steps: Steps,
        optimizer: Callable[[PreSafeModel], torch.optim.Optimizer],
        rate: Callable[[int], float] = lambda step: 1.0,  # noqa: ARG005
    ) -> list[Row]:
        """`rate` is the factor of the optimizer's learning rates at a step."""
        module = build_module(self.base, "float32", self.align, self.spec, self.seed)
        base = AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32).eval()
        updates, rows = optimizer(module), []
        peaks = [group["lr"] for group in updates.param_groups]
        for number, batch in enumerate(steps):
            for group, peak in zip(updates.param_groups, peaks, strict=True):
                group["lr"] = peak * rate(number)
            parts = [self._sequence(module, base, example) for example in batch]
            targets = sum(len(example.completion) for example in batch)
            pool = sum(not example.completion for example in batch)
            signals = sum(example.refuse_probability is not None for example in batch)
            lm, align, anchor = torch.stack([torch.stack(part) for part in parts]).sum(dim=0)
            lm, align, anchor = lm / max(targets, 1), align / max(signals, 1), anchor / max(pool, 1)
            weight, anchor_weight = self.weights(number)
            loss = lm + weight * align + weight * anchor_weight * anchor
            updates.zero_grad()
            loss.backward()
            parameters = [p for p in module.parameters() if p.requires_grad]
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.align.max_grad_norm)
            updates.step()
            rows.append(Row(loss.item(), lm.item(), align.item(), anchor.item(), norm.item()))
        return rows

    def _sequence(
        self, module: PreSafeModel, base: torch.nn.Module, example: Example
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Sums of one sequence's losses L_LM, L_align, L_anchor."""
        block, shared = list(self.collator.block), self.collator.shared
        ids = torch.tensor([example.prompt + (example.completion or block)])
        output = module.lm(input_ids=ids, output_hidden_states=True, use_cache=False)
        logits = output.logits[0]
        start = len(example.prompt) - 1
        zero = logits.new_zeros(())
        lm = sum((cross_entropy(logits[start + k], torch.tensor(t)) for k, t in enumerate(example.completion)), zero)
        target = torch.tensor(example.refuse_probability or 0.0)
        if self.spec.kind == "none":
            return lm, zero, zero
        if example.refuse_probability is None:
            align = zero
        elif self.spec.kind == "readout":
            p = logits[start + shared].softmax(-1)[self.spec.decision_token]
            align = -(target * p.log() + (1 - target) * (1 - p).log())
        else:
            hidden = output.hidden_states[self.spec.layer][0]
            read = (
                hidden[start]
                if self.spec.kind == "linear"
                else hidden[: start + 1 + len(example.completion)].mean(dim=0)
            )
            align = binary_cross_entropy_with_logits(module.head(read), target)
        if not self.spec.anchored or example.completion:
            return lm, align, zero
        with torch.no_grad():
            theirs = base(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
        positions = [*range(start, start + shared), len(ids[0]) - 1]
        ours = logits.log_softmax(-1)
        anchor = sum(((theirs[k].exp() * (theirs[k] - ours[k])).sum() for k in positions), zero)
        return lm, align, anchor
