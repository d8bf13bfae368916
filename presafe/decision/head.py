"""The safety head: a linear probe on the final-norm hidden state at the pre-CoT position (paper, Fig. 3)."""

import torch
from safetensors.torch import load_file, save_file
from torch import nn


class SafetyHead(nn.Module):
    """p' = sigmoid(w . h + b), kept in float32 whatever the model's dtype."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1, dtype=torch.float32)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of refusal, shape [...], of hidden states of shape [..., hidden_size]."""
        logits: torch.Tensor = self.linear(hidden.to(self.linear.weight.dtype)).squeeze(-1)
        return logits


def decision_logits(logits: torch.Tensor, token: int) -> torch.Tensor:
    """Log-odds [...] of `token` against all others, from next-token logits [..., vocabulary], in float32 or better.

    Their sigmoid is the token's softmax probability: the readout head's p'_j (docs/method.md, decision token).
    """
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    others = exact.masked_fill(torch.arange(exact.shape[-1], device=exact.device) == token, -torch.inf)
    return exact[..., token] - others.logsumexp(dim=-1)


def save_head(head_weights: dict[str, torch.Tensor], path: str) -> None:
    """Write `weight` [1, hidden_size] and `bias` [1]."""
    save_file({name: tensor.float().contiguous().cpu() for name, tensor in head_weights.items()}, path)


def load_head(path: str) -> SafetyHead:
    weights = load_file(path)
    head = SafetyHead(weights["weight"].shape[1])
    head.linear.load_state_dict(weights)
    return head.eval()
