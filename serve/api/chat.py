"""Answers of one replica: a conversation in, events of one or several completions out."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from presafe.decision.events import CompletionEvents, Decided, Event, Finished, events_of, shortest
from presafe.decision.refusal import RefusalReader
from presafe.decision.rule import GateRule
from presafe.engines.streaming import Sampling, StreamingEngine
from presafe.thinking import ThinkFormat
from serve.api.reply import Choices


@dataclass(frozen=True)
class Chat:
    """Puts completions on an engine, and what comes back into words."""

    engine: StreamingEngine
    think: ThinkFormat
    rule: GateRule
    reader: RefusalReader
    """With what the gate says where it refuses in its own words."""
    timeout_s: float

    async def answers(self, prompt: Sequence[int], sampling: Sampling, n: int, room: int) -> AsyncGenerator[Choices]:
        """Events of `n` completions, Decided ones first. All are on the path that the first one's decision took.

        Path A is greedy, so its `n` completions are one. Path B draws each with a seed of its own. Raises EngineError,
        and TimeoutError where one takes longer than `timeout_s`.
        """
        first = self._events(prompt, sampling, room)
        async with aclosing(first):
            decided = await anext(first)
            for index in range(n):
                yield index, decided
            if n == 1 or (isinstance(decided, Decided) and decided.path != "think"):
                async for event in first:
                    yield 0, event
                    for index in range(1, n):
                        yield index, replace(event, completion_tokens=0) if isinstance(event, Finished) else event
                return
            others = [self._events(prompt, _reseeded(sampling, index), room) for index in range(1, n)]
            merged = _merged([first, *others])
            async with aclosing(merged):
                async for index, event in merged:
                    if not isinstance(event, Decided):
                        yield index, event

    def _events(self, prompt: Sequence[int], sampling: Sampling, room: int) -> AsyncGenerator[Event]:
        limit = min(room, max(sampling.max_tokens, shortest(self.think)))
        completion = CompletionEvents(self.think, sampling, self.rule, self.reader)
        return events_of(self.engine.generate(prompt, sampling, limit), completion, self.timeout_s)


def _reseeded(sampling: Sampling, index: int) -> Sampling:
    return sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + index)


async def _merged(streams: list[AsyncGenerator[Event]]) -> AsyncGenerator[Choices]:
    """Events of all streams as they come. The first exception of any ends all."""
    queue: asyncio.Queue[tuple[int, Event | Exception | None]] = asyncio.Queue()

    async def pump(index: int, stream: AsyncGenerator[Event]) -> None:
        try:
            async with aclosing(stream):
                async for event in stream:
                    queue.put_nowait((index, event))
            queue.put_nowait((index, None))
        except Exception as error:  # noqa: BLE001 - raised where the stream is read
            queue.put_nowait((index, error))

    pumps = [asyncio.create_task(pump(index, stream)) for index, stream in enumerate(streams)]
    try:
        running = len(pumps)
        while running:
            index, event = await queue.get()
            if isinstance(event, Exception):
                raise event
            if event is None:
                running -= 1
            else:
                yield index, event
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.wait(pumps)
