"""One completion while it comes: the path it is on, and what of it the client may read."""

from dataclasses import dataclass

from presafe.gate import Path
from presafe.thinking import ThinkFormat
from serve.engine import EndReason, Sampling, Step
from serve.steering import GateRule, PathWatch
from serve.text import CompletionText, Detokeniser, Text


@dataclass(frozen=True)
class Decided:
    """The path taken, the head's probability of refusal (NaN without a head), and what the gate made of it."""

    path: Path
    refuse_probability: float
    gate_path: Path | None = None


@dataclass(frozen=True)
class Finished:
    """The end. `reasoning_tokens` counts Path B's think block up to its closing tag."""

    finish_reason: EndReason
    completion_tokens: int
    reasoning_tokens: int


Event = Decided | Text | Finished
"""A completion is Decided once, then Text any number of times, then Finished once."""


class Completion:
    """Steps of an engine go in, events come out.

    The client's `max_tokens` and `stop` apply once the path shows: neither can cut the decision short.
    """

    def __init__(self, think: ThinkFormat, sampling: Sampling, rule: GateRule, refusal: str) -> None:
        self._sampling, self._rule, self._refusal = sampling, rule, refusal
        self._watch = PathWatch(think)
        self._detokeniser, self._text = Detokeniser(think), CompletionText(think, sampling.stop)
        self._probability = float("nan")
        self._decided = False
        self._tokens = self._reasoning_tokens = self._unread = 0
        self.over = False
        """Whether the last event was Finished; the engine is to stop."""

    def push(self, step: Step) -> list[Event]:
        assert not self.over
        events: list[Event] = []
        if step.refuse_probability is not None:
            self._probability = step.refuse_probability
            if self._rule.refuses(self._probability):
                self._watch.path = "refuse"
                events += self._decision()
                if self._rule.action == "refusal":
                    return [*events, Text("answer", self._refusal), *self._end("stop")]
        for token in step.tokens:
            events += self._push(token)
            if reason := self._client_ends():
                return [*events, *self._end(reason)]
        if step.finish_reason is not None:
            self._unread = step.unread_tokens
            self._watch.end()
            return [*events, *self._decision(), *self._end(step.finish_reason)]
        return events

    def _push(self, token: int) -> list[Event]:
        self._tokens += 1
        self._watch.push(token)
        texts = self._text.push(self._detokeniser.push(token))
        if not self._text.in_answer:
            self._reasoning_tokens = self._tokens
        return [*self._decision(), *texts]

    def _decision(self) -> list[Event]:
        """Decided, once the path shows."""
        if self._decided or self._watch.path is None:
            return []
        self._decided = True
        return [Decided(self._watch.path, self._probability, self._rule.decision(self._probability))]

    def _client_ends(self) -> EndReason | None:
        if self._text.stopped:
            return "stop"
        return "length" if self._decided and self._tokens >= self._sampling.max_tokens else None

    def _end(self, reason: EndReason) -> list[Event]:
        self.over = True
        reasoning = self._reasoning_tokens if self._watch.path == "think" else 0
        return [*self._text.finish(), Finished(reason, self._tokens + self._unread, reasoning)]
