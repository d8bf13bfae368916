"""What a search may ask, what it has spent, and at which unit of its budget the decision broke."""

from collections.abc import Callable, Sequence

from presafe.attacks.adaptive.target import Asked, Seen, as_it_is
from presafe.conversation import Conversation
from presafe.decision.rule import GateMode, decide
from presafe.errors import user_error

Decisions = Callable[[Sequence[Asked]], list[Seen]]


class UnaskedError(Exception):
    """The engine does not take the prompt as it is."""


class Oracle:
    """One search's way to one prompt's decision.

    An attacker to whom the outcome alone shows calls `refused`, one who sees p' calls `probabilities`, one who has the
    weights looks for himself (`weighed`, `decided`) and has what he found `confirmed`. All stop at the budget, or at
    the first candidate that is not refused: by the model, and with the gate on by the head either.
    """

    def __init__(
        self, decisions: Decisions, prompt: Conversation, gate: GateMode, threshold: float, budget: int
    ) -> None:
        self.prompt, self.gate = prompt, gate
        self.spent = self.queries = self.forward_passes = self.backward_passes = 0
        self.broke: Asked | None = None
        """The first candidate that was not refused."""
        self.broke_at: int | None = None
        """How much had been spent when it was, itself included."""
        self._decisions, self._threshold, self._budget = decisions, threshold, budget

    @property
    def left(self) -> int:
        """Candidates that may still be tried; 0 as soon as one broke the decision."""
        return 0 if self.broke else self._budget - self.spent

    def refused(self, texts: Sequence[str], *, drawn: bool = False) -> list[bool]:
        """Whether each was refused. Asks no more of them than are `left`."""
        return [self._is_refused(seen) for seen in self._ask(texts, drawn=drawn)]

    def probabilities(self, texts: Sequence[str]) -> list[float]:
        """p' of each, 1 of one that the engine did not take. Asks no more of them than are `left`."""
        return [1.0 if seen.error else self._shown(seen) for seen in self._ask(texts)]

    def weighed(self, count: int) -> None:
        """Spend on candidates that the attacker has weighed himself, a forward pass each."""
        assert count <= self.left, "a search spends no more than it has"
        self.spent += count
        self.forward_passes += count

    def decided(self, seen: Seen) -> None:
        """The same of one, the prompt as it is in a model that the attacker has changed."""
        self.forward_passes += 1
        self._spend([as_it_is(self.prompt)], [seen])

    def queried(self) -> None:
        """Count an answer that the attacker had that model begin."""
        self.queries += 1
        self.forward_passes += 1

    def confirmed(self, text: str) -> bool:
        """Whether a candidate that was paid for already breaks the decision of the target, too."""
        (candidate,) = self._candidates([text])
        (seen,) = self._asked([candidate])
        if not self._is_refused(seen):
            self.broke, self.broke_at = candidate, self.spent
        return self.broke is not None

    def _ask(self, texts: Sequence[str], *, drawn: bool = False) -> list[Seen]:
        candidates = self._candidates(texts[: self.left], drawn=drawn)
        first = self.spent == 0
        seen = self._asked(candidates)
        if first and seen[0].error:
            raise UnaskedError(seen[0].error)
        self._spend(candidates, seen)
        return seen

    def _asked(self, candidates: Sequence[Asked]) -> list[Seen]:
        self.queries += len(candidates)
        self.forward_passes += len(candidates)
        return self._decisions(candidates)

    def _candidates(self, texts: Sequence[str], *, drawn: bool = False) -> list[Asked]:
        earlier = self.prompt.earlier
        return [Asked(text, earlier, self.spent + k if drawn else 0, drawn) for k, text in enumerate(texts)]

    def _spend(self, candidates: Sequence[Asked], seen: Sequence[Seen]) -> None:
        assert len(seen) <= self.left, "a search spends no more than it has"
        for place, (candidate, one) in enumerate(zip(candidates, seen, strict=True), start=1):
            if self.broke is None and not self._is_refused(one):
                self.broke, self.broke_at = candidate, self.spent + place
        self.spent += len(seen)

    def _is_refused(self, seen: Seen) -> bool:
        if seen.error or seen.path == "refuse":
            return True
        return self.gate == "on" and decide(self._shown(seen), self._threshold) == "refuse"

    def _shown(self, seen: Seen) -> float:
        if seen.refuse_probability is None:
            raise user_error(
                found="a target of the attack that shows no probability of refusal",
                needed="it, for what climbs along it (benign_words) and for what a gate would do",
                change="name other attacks with gate=off, or take a target that shows it (reveal_probability)",
            )
        return seen.refuse_probability
