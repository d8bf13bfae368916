"""Reading the gate's probability off one prefill: every kind of head, the same in evaluate/ and serve/.

Shapes: B prompts, T positions of the longest one, D hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from presafe.decision.head import SafetyHead, decision_logits
from presafe.engines.card import HeadCard
from presafe.thinking import ThinkFormat


@dataclass(frozen=True)
class Reading:
    """logits: [B], of p'; pre_cot: [B, D], final-norm hidden states at the prompts' last positions.

    `cache` has the keys and values of the prompts, where asked for.
    """

    logits: torch.Tensor
    pre_cot: torch.Tensor
    cache: Any

    @property
    def probabilities(self) -> list[float]:
        """p' of every prompt."""
        found: list[float] = self.logits.sigmoid().tolist()
        return found


@dataclass(frozen=True)
class HeadReader:
    """A head with all it reads by: its weights, where it has some, or the decision token."""

    card: HeadCard
    probe: SafetyHead | None
    think: ThinkFormat

    def __post_init__(self) -> None:
        assert (self.card.kind == "readout") == (self.probe is None)

    def read(self, model: Any, ids: torch.Tensor, mask: torch.Tensor | None = None, *, cache: bool = False) -> Reading:
        """One pass over CoT-ON prompts, ids and attention mask [B, T], padded on the left.

        A readout head's pass goes on to the decision position, since Path A and Path B may share their first tokens.
        """
        width = ids.shape[1]
        shared = self.think.decision_prefix if self.card.kind == "readout" else []
        behind = torch.tensor(shared, dtype=ids.dtype, device=ids.device).expand(len(ids), -1)
        output = model.base_model(
            input_ids=torch.cat([ids, behind], dim=1),
            attention_mask=None if mask is None else torch.cat([mask, torch.ones_like(behind)], dim=1),
            use_cache=cache,
            output_hidden_states=self.probe is not None and self.card.layer != -1,
        )
        if cache and shared:
            output.past_key_values.crop(-len(shared))
        return Reading(
            self.logits(model, output, mask, width), output.last_hidden_state[:, width - 1], output.past_key_values
        )

    @torch.inference_mode()
    def probabilities(self, model: Any, prompts: Sequence[list[int]]) -> list[float]:
        """p' of each CoT-ON prompt, a pass each."""
        return [self.read(model, torch.tensor([ids], device=model.device)).probabilities[0] for ids in prompts]

    def logits(self, model: Any, output: Any, mask: torch.Tensor | None, width: int) -> torch.Tensor:
        """Of p' [B], off the output of a pass over prompts of `width` positions and what `read` puts behind them."""
        last = output.last_hidden_state
        if self.probe is None:
            return decision_logits(model.get_output_embeddings()(last[:, -1]), self.think.decision_token)
        hidden = last if self.card.layer == -1 else output.hidden_states[self.card.layer]
        if self.card.kind == "linear":
            found = self.probe(hidden[:, width - 1])
        else:
            kept = torch.ones(hidden.shape[:2], device=hidden.device) if mask is None else mask
            found = self.probe(mean_state(hidden, kept))
        assert isinstance(found, torch.Tensor)
        return found


def mean_state(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean [B, D] of hidden states [B, T, D] where `mask` [B, T] is 1, in float32 or better."""
    exact = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    return (exact * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
