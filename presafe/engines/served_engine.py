"""A job's engine on one that makes completions side by side: what it generates is what the endpoint would have said."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from presafe.config import Decoding
from presafe.conversation import messages
from presafe.decision.events import CompletionEvents, Decided, Finished, events_of, shortest
from presafe.decision.refusal import RefusalReader
from presafe.decision.rule import GateRule, PathTaken
from presafe.decision.text import Text
from presafe.engines.encoding import begun, completion, encode
from presafe.engines.engine import Completion, IsDecided, Query, Tell, failed, query_seed, told_nobody
from presafe.engines.streaming import EngineError, Sampling, StreamingEngine
from presafe.thinking import ThinkFormat

CHECK_SECONDS = 10.0
"""How often an engine that gives no completion is asked whether it is alive."""
NO_GATE = GateRule("off", 1.0, "refusal")
"""A job's answers are the model's own; what a gate would make of them follows from p'."""
ONE_TOKEN = Sampling(1, 0, 1)

HeadProbabilities = Callable[[Sequence[list[int]]], list[float]]
"""p' of CoT-ON prompts, as token ids."""


class ServedEngine:
    """An Engine. A query that takes a decision is answered by the rule, the reader and the text of the endpoint."""

    def __init__(
        self,
        engine: StreamingEngine,
        think: ThinkFormat,
        reader: RefusalReader,
        max_prompt_tokens: int,
        context: int,
        read_head: HeadProbabilities | None = None,
        *,
        head: bool,
    ) -> None:
        """`head`: whether completions are to have p'. `read_head` reads one that the engine's logits do not show."""
        self._engine, self._think, self._reader = engine, think, reader
        self._max_prompt_tokens, self._context = max_prompt_tokens, context
        self._head, self._read_head = head, read_head
        self._runner = asyncio.Runner()  # one event loop, to which an engine may belong

    def generate(
        self,
        queries: Sequence[Query],
        decoding: Decoding,
        seed: int,
        decided: IsDecided | None = None,
        tell: Tell = told_nobody,
    ) -> list[Completion]:
        """One completion a query, in order. The same queries and seed give the same completions."""
        prompts, done = encode(queries, self._think, self._max_prompt_tokens)
        asked = {
            place: self._answer(queries[place], ids, decoding, query_seed(seed, queries[place]), decided)
            for place, ids in prompts.items()
        }
        return [each for _, each in sorted((done | self._runner.run(self._all(asked, len(done), tell))).items())]

    def close(self) -> None:
        self._engine.close()
        self._runner.close()

    async def _all(
        self, asked: dict[int, Coroutine[Any, Any, Completion]], done: int, tell: Tell
    ) -> dict[int, Completion]:
        before, total = self._engine.load.generated_tokens, done + len(asked)
        tasks = {place: asyncio.create_task(answer) for place, answer in asked.items()}
        pending = set(tasks.values())
        try:
            while pending:
                _, pending = await asyncio.wait(pending, timeout=CHECK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                self._engine.check()
                tell(total - len(pending), self._engine.load.generated_tokens - before)
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        return {place: task.result() for place, task in tasks.items()}

    async def _answer(
        self, query: Query, prompt: list[int], decoding: Decoding, seed: int, decided: IsDecided | None
    ) -> Completion:
        """The completion of one query, or why the engine lost it."""
        sampling = Sampling(decoding.max_new_tokens, decoding.temperature, decoding.top_p, seed)
        try:
            prefix = begun(query, self._think)
            if query.decision is None or prefix:
                early = decided if query.stop_early else None
                found = await self._own_text(query, prompt, prefix, sampling, early)
            else:
                found = await self._served(query, prompt, sampling)
        except EngineError as error:
            return failed(str(error))
        return replace(found, prompt_tokens=len(prompt))

    async def _served(self, query: Query, prompt: list[int], sampling: Sampling) -> Completion:
        """As the endpoint answers with its gate off."""
        limit = min(max(sampling.max_tokens, shortest(self._think)), self._context - len(prompt))
        steps = self._engine.generate(prompt, sampling, limit, query.decision, whole=True)
        events = CompletionEvents(self._think, sampling, NO_GATE, self._reader)
        texts = {"reasoning": "", "answer": "", "refusal": ""}
        async with aclosing(events_of(steps, events, None)) as found:
            async for event in found:
                match event:
                    case Decided():
                        decision = event
                    case Text(channel, text):
                        texts[channel] += text
                    case Finished():
                        end = event
        probability = self._hidden(prompt) if self._read_head else decision.refuse_probability
        return Completion(
            texts["reasoning"],
            texts["answer"] + texts["refusal"],
            end.finish_reason,
            end.completion_tokens,
            path=decision.path,
            refuse_probability=probability if self._head else None,
        )

    async def _own_text(
        self, query: Query, prompt: list[int], prefix: list[int], sampling: Sampling, decided: IsDecided | None
    ) -> Completion:
        """Whatever the model writes; up to where `decided` says that it is decided, if at all.

        `prefix` are the tokens at the end of `prompt` that belong to the completion, and are not counted.
        """
        probability = await self._probability(query) if self._head else None
        tokens: list[int] = []
        limit = min(sampling.max_tokens, self._context - len(prompt))
        async with aclosing(self._engine.generate(prompt, sampling, limit, None, whole=decided is None)) as steps:
            async for step in steps:
                tokens += step.tokens
                if step.finish_reason is not None:
                    used, reason = len(tokens) + step.unread_tokens, step.finish_reason
                    whole = completion(self._think, query.cot, self._text([*prefix, *tokens]), used, reason)
                    break
                if decided is not None:
                    thought = self._think.split_beginning(self._text([*prefix, *tokens]), cot=query.cot == "on")
                    if thought.closed and decided(thought.answer):
                        text = self._text([*prefix, *tokens])
                        whole = completion(self._think, query.cot, text, len(tokens), "decided")
                        break
        path = self._path(whole) if query.decision is not None else None
        return replace(whole, refuse_probability=probability, path=path)

    def _path(self, whole: Completion) -> PathTaken:
        """Of a completion with a prefill, by what the whole shows."""
        return "think" if whole.reasoning else self._reader.end(whole.answer, whole.finish_reason)

    async def _probability(self, query: Query) -> float:
        """p' at the CoT-ON prompt of a query that takes no decision."""
        prompt = self._think.prompt_ids(messages(query))
        if self._read_head:
            return self._hidden(prompt)
        async with aclosing(self._engine.generate(prompt, ONE_TOKEN, 1)) as steps:
            first = await anext(steps)
        assert first.refuse_probability is not None
        return first.refuse_probability

    def _hidden(self, prompt: list[int]) -> float:
        assert self._read_head is not None
        return self._read_head([prompt])[0]

    def _text(self, tokens: list[int]) -> str:
        text = self._think.tokenizer.decode(tokens, skip_special_tokens=False)
        assert isinstance(text, str)
        return text
