"""Reading the decision's probability off the logits of a prefill, for engines that show nothing else."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from presafe.decision.gate_row import write_gate_row
from presafe.decision.head import decision_logits
from presafe.decision.prefill import HeadReader
from presafe.decision.steering import probability
from presafe.engines.exported import LoadedModel


@dataclass(frozen=True)
class DecisionReader:
    """Where p' is among the logits of the decision's position.

    A linear head is a row of the vocabulary (docs/export.md) with its `bias` kept apart; a readout head is the
    probability of the decision token. `row` and `token` are both None where there is nothing to read.
    """

    row: int | None
    bias: float
    token: int | None
    suppressed: tuple[int, ...]
    """Ids that stand for no token."""

    @classmethod
    def of(cls, loaded: LoadedModel, head: HeadReader | None, threshold: float) -> "DecisionReader":
        """What reads `head` off a model in memory; a linear head is written into it as a row of its vocabulary."""
        if head is None or not readable(head):
            return cls(None, 0.0, None, ())
        if head.probe is None:
            return cls(None, 0.0, loaded.format.decision_token, ())
        row = write_gate_row(loaded.model, loaded.tokenizer, head.probe, threshold)
        return cls(row.token_id, row.bias, None, tuple(row.suppressed))

    @property
    def readout(self) -> bool:
        return self.token is not None

    @property
    def reads(self) -> bool:
        """Whether there is a p' to read."""
        return self.row is not None or self.token is not None

    def hide(self, scores: torch.Tensor) -> Callable[[int], float]:
        """Make the suppressed ids of `scores` [rows, vocabulary] impossible, in place; p' of a row, as before."""
        logits = None if self.row is None else scores[:, self.row].clone()
        if self.suppressed:
            scores[:, list(self.suppressed)] = -torch.inf

        def read(place: int) -> float:
            if logits is not None:
                return probability(logits[place].item() + self.bias)
            if self.token is not None:
                return decision_logits(scores[place], self.token).sigmoid().item()
            return float("nan")

        return read


def readable(head: HeadReader) -> bool:
    """Whether an engine's logits show p': probes of other layers, or of the prompt's mean, read what they do not."""
    return head.probe is None or (head.card.kind == "linear" and head.card.layer == -1)
