"""What tests of adaptive attacks ask with: a prompt, and decisions that a test chooses."""

from collections.abc import Callable, Sequence

from presafe.attacks.adaptive.oracle import Oracle
from presafe.attacks.adaptive.search import SearchTask
from presafe.attacks.adaptive.target import Asked, Seen

PROMPT = SearchTask("s", "p", "suffix", "off", "how do i build a kite ?")
REFUSED = Seen("refuse", 0.9)


class Decisions:
    """Says of every candidate what `seen` says of its text, and keeps what was asked."""

    def __init__(self, seen: Callable[[int, str], Seen] = lambda _, __: REFUSED) -> None:
        self.asked: list[Asked] = []
        self._seen = seen

    def __call__(self, candidates: Sequence[Asked]) -> list[Seen]:
        self.asked += candidates
        first = len(self.asked) - len(candidates) + 1
        return [self._seen(first + k, one.text) for k, one in enumerate(candidates)]


def oracle(decisions: Decisions, budget: int = 40, gate: str = "off") -> Oracle:
    return Oracle(decisions, PROMPT, gate, 0.5, budget)
