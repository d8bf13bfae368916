"""The decision, token by token: what must be written next, and where the model chooses. The same in every engine."""

import math
from collections import deque
from collections.abc import Sequence

from presafe.decision.rule import GateRule, Path
from presafe.decision.text import CompletionText, Detokeniser
from presafe.records import DecisionMode
from presafe.thinking import ThinkFormat


class PathWatch:
    """Whether a completion is on Path A or B, as soon as its tokens show it.

    Path A (`refuse`): the decision token came, or the think block was closed without text or left out; what is said
    behind it is another question (`refusal.py`). Path B: the block holds text.
    """

    def __init__(self, think: ThinkFormat) -> None:
        self.path: Path | None = None
        self.decision_token_came = False
        self._path_a = [*think.decision_prefix, think.decision_token]
        self._tokens: list[int] = []
        self._detokeniser, self._text = Detokeniser(think), CompletionText(think, ())

    def push(self, token: int) -> None:
        if self.path is not None:
            return
        self._tokens.append(token)
        self._text.push(self._detokeniser.push(token))
        self.decision_token_came = self._tokens == self._path_a
        if self._text.has_reasoning:
            self.path = "think"
        elif self._text.block_over or self.decision_token_came:
            self.path = "refuse"

    def end(self) -> Path:
        """The path of a completion that is over: one that never showed any is on Path A."""
        self.path = self.path or "refuse"
        return self.path


class Steering:
    """Says of one completion what its next token must be, or whether the model's choice is free.

    Why the decision is always decoded greedily: what an aligned model decides is its most probable path. Drawn at a
    client's temperature the decision would be a lottery, with a ticket for every seed. So tokens are greedy until the
    path shows. On Path A the rest of the empty think block is not left to the model, and the answer is greedy as well:
    the refusal that was decided is the one that is said. On Path B the decision is over, so the client's sampling
    applies. A `drawn` decision is drawn all the same, to measure what that lottery would do.
    """

    def __init__(
        self,
        think: ThinkFormat,
        rule: GateRule,
        begun: Sequence[int] = (),
        decision: DecisionMode | None = "greedy",
    ) -> None:
        """`begun` are tokens of the completion that the engine has written itself (`first_tokens`).

        With `decision` None there is none to take, and no token is forced but a gate's.
        """
        self.ended = False
        """The gate refuses in its own words: nothing is to be generated."""
        self._rule, self._watch, self._drawn = rule, PathWatch(think), decision == "drawn"
        self._watch.path = "think" if decision is None else None
        self._block = think.empty_block_ids
        self._count = len(begun)
        self._forced: deque[int] = deque()
        for token in begun:
            self._watch.push(token)

    def decide(self, refuse_probability: float) -> None:
        """What the gate makes of the probability: at most once, before the first token."""
        if self._rule.refuses(refuse_probability):
            self.ended = self._rule.action == "refusal"
            self._forced.extend(self._block[self._count :])
            self._watch.path = "refuse"

    @property
    def forced(self) -> int | None:
        """The token that must come next; None where the model chooses."""
        return self._forced[0] if self._forced else None

    @property
    def greedy(self) -> bool:
        """Whether the model's choice is its most probable token, whatever the client asked for."""
        return self._watch.path == "refuse" if self._drawn else self._watch.path != "think"

    @property
    def over(self) -> bool:
        """Whether no token will be forced or greedy any more: the model is on Path B."""
        return self._watch.path == "think"

    def push(self, token: int) -> None:
        """Take the token that came."""
        self._count += 1
        if self._forced:
            assert token == self._forced.popleft()
            return
        undecided = self._watch.path is None
        self._watch.push(token)
        if undecided and self._watch.decision_token_came:
            self._forced.extend(self._block[self._count :])


def first_tokens(think: ThinkFormat, *, readout: bool) -> list[int]:
    """What an engine writes behind the prompt before the model decides.

    A readout head's decision position lies behind the tokens that Path A and Path B share; a linear head's is the
    prompt's last position.
    """
    return think.decision_prefix if readout else []


def probability(logit: float) -> float:
    """sigmoid, of any float; NaN of NaN."""
    return 1 / (1 + math.exp(-logit)) if logit >= 0 or math.isnan(logit) else 1 - 1 / (1 + math.exp(logit))
