"""One completion while it comes: the path it is on, and what of it the client may read."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from presafe.decision.refusal import BEGINNING, RefusalReader
from presafe.decision.rule import GateRule, Path, PathTaken
from presafe.decision.steering import PathWatch
from presafe.decision.text import CompletionText, Detokeniser, Text
from presafe.engines.streaming import EndReason, Sampling, Step
from presafe.thinking import ThinkFormat

NO_ANSWER = "The model ended without an answer."
"""What the endpoint says where a model ended without a word, and no card has a refusal for it."""


@dataclass(frozen=True)
class Decided:
    """The path taken, the head's probability of refusal (NaN without a head), and what the gate made of it."""

    path: PathTaken
    refuse_probability: float
    gate_path: Path | None = None


@dataclass(frozen=True)
class Finished:
    """The end. `reasoning_tokens` counts Path B's think block up to its closing tag."""

    finish_reason: EndReason
    completion_tokens: int
    reasoning_tokens: int


DECISION_ROOM = 8
"""Tokens beside the empty think block in which a model should have shown whether it reasons."""

Event = Decided | Text | Finished
"""A completion is Decided once, then Text any number of times, then Finished once."""


class CompletionEvents:
    """Steps of an engine go in, events come out.

    Path B shows with the first text of the reasoning. Behind an empty think block it is the answer's beginning that
    shows whether a refusal is said, so that much of it is held back (`refusal.py`). The client's `max_tokens` and
    `stop` apply once the path shows: neither can change it. Only a client's own limit or stop leaves an answer empty.
    """

    def __init__(self, think: ThinkFormat, sampling: Sampling, rule: GateRule, reader: RefusalReader) -> None:
        self._sampling, self._rule, self._reader = sampling, rule, reader
        self._watch = PathWatch(think)
        self._detokeniser, self._text = Detokeniser(think), CompletionText(think, sampling.stop)
        self._probability = float("nan")
        self._path: PathTaken | None = None
        self._answered = False
        self._held: list[Text] = []
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
                if self._rule.action == "refusal":
                    return self._own_refusal()
        for token in step.tokens:
            events += self._push(token)
            if reason := self._client_ends():
                return [*events, *self._text.finish(), self._finished(reason)]
        if step.finish_reason is not None:
            self._unread = step.unread_tokens
            return [*events, *self._end(step.finish_reason)]
        return events

    def _push(self, token: int) -> list[Event]:
        self._tokens += 1
        self._watch.push(token)
        texts = self._text.push(self._detokeniser.push(token))
        if not self._text.block_over:
            self._reasoning_tokens = self._tokens
        if self._path is not None:
            return [*self._said(texts)]
        self._held += self._said(texts)
        path = self._path_shown()
        return [] if path is None else [self._decision(path), *self._held]

    def _said(self, texts: list[Text]) -> list[Text]:
        self._answered = self._answered or any(text.channel == "answer" for text in texts)
        return texts

    def _path_shown(self) -> PathTaken | None:
        """None where what is yet to come decides."""
        if self._watch.path != "refuse":
            return self._watch.path
        if any(text.channel == "reasoning" for text in self._held):  # a second block, behind an empty one
            return "think"
        return self._reader.path(self._beginning, self._tokens - self._reasoning_tokens)

    @property
    def _beginning(self) -> str:
        """Of the answer, as far as it was held back."""
        return "".join(text.text for text in self._held)

    def _decision(self, path: PathTaken) -> Decided:
        self._path = path
        return Decided(path, self._probability, self._rule.decision(self._probability))

    def _client_ends(self) -> EndReason | None:
        if self._text.stopped:
            return "stop"
        return "length" if self._path is not None and self._tokens >= self._sampling.max_tokens else None

    def _end(self, reason: EndReason) -> list[Event]:
        """The engine has ended the completion."""
        rest = self._said(self._text.finish())
        if self._path is not None:
            silent = reason == "stop" and not self._answered
            return [*rest, *([Text("answer", NO_ANSWER)] if silent else []), self._finished(reason)]
        self._held += rest
        self._watch.end()
        if self._answered:
            path = self._reader.end(self._beginning, reason)
            return [self._decision(path), *self._held, self._finished(reason)]
        if self._reader.refusal:  # not a word came: who fails to decide refuses
            return self._own_refusal()
        return [self._decision("answer"), Text("answer", NO_ANSWER), self._finished(reason)]

    def _own_refusal(self) -> list[Event]:
        return [self._decision("refuse"), Text("refusal", self._reader.refusal), self._finished("stop")]

    def _finished(self, reason: EndReason) -> Finished:
        self.over = True
        reasoning = self._reasoning_tokens if self._path == "think" else 0
        return Finished(reason, self._tokens + self._unread, reasoning)


async def events_of(
    steps: AsyncGenerator[Step], completion: CompletionEvents, timeout_s: float | None
) -> AsyncGenerator[Event]:
    """Events of a completion up to its end, which stops the engine. Raises TimeoutError where it takes longer."""
    end = None if timeout_s is None else time.monotonic() + timeout_s
    async with aclosing(steps):
        while not completion.over:
            async with asyncio.timeout(None if end is None else end - time.monotonic()):
                step = await anext(steps)
            for event in completion.push(step):
                yield event


def shortest(think: ThinkFormat) -> int:
    """Tokens that a completion needs for its path to show, and whether a refusal is said."""
    return len(think.empty_block_ids) + DECISION_ROOM + BEGINNING
