"""Cross-entropy through a frozen output layer, without the logits of all targets at once."""

from typing import Any

import torch
from torch import nn

BLOCK = {"cpu": 2**22, "cuda": 2**27}
"""Logits at a time: about what a CPU's cache holds, and enough rows for a GPU's matrix units."""


class FrozenOutputLoss(nn.Module):
    """Summed cross-entropy of hidden states [N, hidden_size] for targets [N], whose output layer is not trained.

    The hidden states' gradient is made in the forward pass, a block of rows at a time, so that neither logits
    [N, vocabulary] nor their gradient is ever kept. Its own module, so that ZeRO-3 gathers the weight for it.
    """

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        assert not weight.requires_grad
        self.weight = weight

    def forward(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = _SummedLoss.apply(hidden, self.weight, targets)  # type: ignore[no-untyped-call]
        return loss


class _SummedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        exact = torch.promote_types(hidden.dtype, torch.float32)
        losses = torch.zeros(len(hidden), 1, dtype=exact, device=hidden.device)
        gradient = torch.empty_like(hidden)
        rows = max(1, BLOCK[hidden.device.type] // len(weight))
        for start in range(0, len(hidden), rows):
            block = slice(start, start + rows)
            target = targets[block].unsqueeze(1)
            logits = (hidden[block] @ weight.T).to(exact)
            logits -= logits.amax(dim=1, keepdim=True)
            own = logits.gather(1, target)
            total = logits.exp_().sum(dim=1, keepdim=True)
            losses[block] = total.log() - own
            if ctx.needs_input_grad[0]:
                difference = logits.div_(total).scatter_add_(1, target, torch.full_like(own, -1.0))
                gradient[block] = difference.to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * grads[0]).to(gradient.dtype), None, None
