"""The decision itself: a probability of refusal and a threshold in, Path A or Path B out.

Pure, and the same for `evaluate/` and `serve/`. With the gate off the aligned model decides by itself (the paper); with
the gate on the safety head's probability at the pre-CoT position does.
"""

from dataclasses import dataclass
from typing import Literal

Path = Literal["refuse", "think"]
"""What is decided before the first token: `refuse` is Path A (no chain-of-thought), `think` is Path B."""

PathTaken = Literal["refuse", "answer", "think"]
"""What was done: `refuse` only where a refusal was said. `answer` is an empty think block with anything else behind it:
the CoT-OFF state."""

GateMode = Literal["off", "on"]

ServingGate = Literal["off", "on", "shadow"]
"""`shadow` decides and tells, and does nothing."""

GateAction = Literal["refusal", "cot_off"]


def decide(refuse_probability: float, threshold: float) -> Path:
    """Path A at or above the threshold. A probability that is not a number refuses: the gate fails closed."""
    return "think" if refuse_probability < threshold else "refuse"


@dataclass(frozen=True)
class GateRule:
    """The server's gate, which no request can reach."""

    mode: ServingGate
    threshold: float
    action: GateAction
    """Above the threshold: a configured refusal, or the think block is closed and the CoT-OFF state answers."""

    def decision(self, refuse_probability: float) -> Path | None:
        """What the gate decides, whether or not it acts; None where it is off."""
        return None if self.mode == "off" else decide(refuse_probability, self.threshold)

    def refuses(self, refuse_probability: float) -> bool:
        """Whether the gate takes Path A by itself. A probability that is not a number refuses."""
        return self.mode == "on" and self.decision(refuse_probability) == "refuse"
