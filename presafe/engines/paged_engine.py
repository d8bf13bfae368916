"""Transformers with a paged cache: its continuous batching, on the CPU or one GPU.

Completions come and go at every step of one running batch. A logits processor of ours sees the logits of every new
token, reads the decision's probability off those of the prefill, and says which token comes: the decision costs no
forward pass of its own, and a refused completion ends with its prefill.
"""

import asyncio
import logging
import math
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig, LogitsProcessorList
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
    ContinuousBatchingLogitsProcessorList,
)

from presafe.config import BatchingSettings
from presafe.decision.prefill import HeadReader
from presafe.decision.reader import DecisionReader
from presafe.decision.rule import GateRule
from presafe.decision.steering import Steering, first_tokens
from presafe.engines.drawing import Drawing
from presafe.engines.exported import LoadedModel
from presafe.engines.paged_attention import attend_by_sequence
from presafe.engines.paged_cache import blocks
from presafe.engines.streaming import EngineError, Load, Sampling, Step
from presafe.records import DecisionMode

logger = logging.getLogger("ray.serve")

STALL_SECONDS = 600.0
"""A forward pass that takes longer hangs."""

Answer = Step | EngineError


class PagedEngine:
    """A StreamingEngine."""

    def __init__(
        self,
        loaded: LoadedModel,
        rule: GateRule,
        settings: BatchingSettings,
        longest: int,
        head: HeadReader | None = None,
    ) -> None:
        """`longest`: tokens of prompt and completion together that must fit. Raises UserError where they do not.

        `head` is what p' is read by where it is not the model's own.
        """
        reader = DecisionReader.of(loaded, head or loaded.reader, rule.threshold)
        self._think, self._rule, self._stop_ids = loaded.format, rule, loaded.stop_ids
        self._begun = first_tokens(loaded.format, readout=reader.readout)
        self._processor = _Processor(reader, min(self._stop_ids))
        config = ContinuousBatchingConfig(
            page_size=settings.page_size,
            num_blocks=blocks(settings, longest, loaded.model.device.type),
            max_batch_tokens=settings.max_batch_tokens,
            max_requests_per_batch=settings.max_requests_per_batch,
            use_async_batching=False,  # the processor must see a token before it steers the next one
            use_cuda_graph=False,  # it runs on the host
        )
        model: Any = loaded.model
        if model.device.type == "cpu":
            attend_by_sequence(model)
        self._manager = model.init_continuous_batching(
            generation_config=GenerationConfig(do_sample=False, eos_token_id=sorted(self._stop_ids)),
            continuous_batching_config=config,
        )
        processors = ContinuousBatchingLogitsProcessorList(LogitsProcessorList([self._processor]))
        processors.tensors_required = 1
        self._manager.logit_processor = processors
        self._manager.warmup()  # lays out the cache here, where a failure can be seen
        # A daemon's thread is one: the loop must not keep a process that ends, as an actor does without `close`.
        starter = threading.Thread(target=self._manager.start, daemon=True)
        starter.start()
        starter.join()

    async def generate(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        limit: int,
        decision: DecisionMode | None = "greedy",
        *,
        whole: bool = False,
    ) -> AsyncGenerator[Step]:
        """See StreamingEngine."""
        assert prompt, "an empty prompt makes the model answer nothing in particular"
        name = uuid.uuid4().hex
        answers: asyncio.Queue[Answer] = asyncio.Queue()
        begun = [] if decision is None else self._begun
        steering = Steering(self._think, self._rule, begun, decision)
        loop, drawing = asyncio.get_running_loop(), Drawing(sampling)
        row = _Row(answers, loop, steering, drawing, begun, limit, self._stop_ids, whole=whole)
        if not self._processor.rows:
            self._processor.last_step = time.monotonic()  # it was idle, and does not hang
        self._processor.rows[name] = row
        self._manager.register_result_handler(name, lambda result: _failed(answers, result.error))
        finished = False
        try:
            room = max(limit - len(begun), 1)
            if self._manager.add_request([*prompt, *begun], request_id=name, max_new_tokens=room) is None:
                raise EngineError("the engine takes no more completions")
            while not finished:
                answer = await answers.get()
                if isinstance(answer, EngineError):
                    raise answer
                finished = answer.finish_reason is not None
                yield answer
        finally:
            del self._processor.rows[name]
            if not finished:
                self._manager.cancel_request(name)
                self._manager.output_router.result_handlers.pop(name, None)  # it is told of no cancelled request

    @property
    def load(self) -> Load:
        return Load(len(self._processor.rows), self._kv_use(), self._processor.generated_tokens)

    def check(self) -> None:
        status = self._manager.background_thread_status
        if not self._manager.is_running() or status.can_accept_new_requests() is not None:  # dead, or about to be
            raise EngineError(f"the generation loop died: {status.fatal_error!r}")
        stalled = time.monotonic() - self._processor.last_step
        if self._processor.rows and stalled > STALL_SECONDS:
            raise EngineError(f"no token for {stalled:.0f} s")

    def close(self) -> None:
        self._manager.stop(block=True, timeout=5, hard_stop=True)

    def _kv_use(self) -> float:
        batch = self._manager.batch_processor
        return 0.0 if batch is None else 1.0 - float(batch.cache.compute_free_capacity())


class _Row:
    """One completion in the batch."""

    def __init__(
        self,
        answers: "asyncio.Queue[Answer]",
        loop: asyncio.AbstractEventLoop,
        steering: Steering,
        drawing: Drawing,
        begun: Sequence[int],
        limit: int,
        stop_ids: frozenset[int],
        *,
        whole: bool,
    ) -> None:
        self.answers, self.loop = answers, loop
        self._whole, self._tokens, self._first = whole, list[int](), math.nan
        self._steering, self._drawing = steering, drawing
        self._begun, self._limit, self._stop_ids = list(begun), limit, stop_ids
        self._count, self._decided = len(begun), False

    def step(self, logits: torch.Tensor, greedy: int, probability: Callable[[], float]) -> tuple[int | None, Step]:
        """The next token, of logits [vocabulary] whose largest is at `greedy`, and what the client is told.

        No token ends the completion here and now: the gate has refused.
        """
        first = None
        if not self._decided:
            self._decided, first = True, probability()
            self._steering.decide(first)
            if self._steering.ended:
                return None, Step((), first, "stop")
        token = self._steering.forced
        if token is None:
            token = greedy if self._steering.greedy else self._drawing.draw(logits, greedy)
        begun, self._begun = self._begun, []
        if token in self._stop_ids:
            return token, Step(begun, first, "stop", unread_tokens=1)
        self._steering.push(token)
        self._count += 1
        return token, Step([*begun, token], first, "length" if self._count >= self._limit else None)

    def told(self, step: Step) -> Step | None:
        """What the client is told with this step: nothing as yet, where one step with all tokens will do."""
        if not self._whole:
            return step
        self._tokens += step.tokens
        if step.refuse_probability is not None:
            self._first = step.refuse_probability
        if step.finish_reason is None:
            return None
        return replace(step, tokens=self._tokens, refuse_probability=self._first)


class _Processor(ContinuousBatchingLogitsProcessor):  # type: ignore[misc]
    """Steers every row of the batch, in the thread of the generation loop."""

    supported_kwargs: dict[str, type] = {}
    ignored_kwargs: tuple[str, ...] = ()

    def __init__(self, reader: DecisionReader, end: int) -> None:
        self.rows: dict[str, _Row] = {}
        self.generated_tokens = 0
        self.last_step = time.monotonic()
        self._reader, self._end = reader, end
        self._names: list[str] = []

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> torch.Tensor:
        """Whose logits the next call is given, in order; nothing of it is a tensor."""
        self._names = [request.state.request_id for request in requests_with_new_token]
        return torch.zeros(len(self._names), dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Scores [rows, vocabulary], of which the largest of each row is the token that comes."""
        raw = self._reader.hide(scores)
        answers: list[tuple[_Row, Answer]] = []
        answer: Answer | None
        for place, (name, greedy) in enumerate(zip(self._names, scores.argmax(dim=-1).tolist(), strict=False)):
            row = self.rows.get(name)
            if row is None:  # its client is gone, and so will it be at the next step
                continue
            try:
                token, step = row.step(scores[place], greedy, partial(raw, place))
                answer = row.told(step)
            except Exception as error:  # one completion's, and not the end of all others
                logger.exception("a completion failed")
                token, answer = None, EngineError(repr(error))
            else:
                self.generated_tokens += len(step.tokens)
            if answer is not None:
                answers.append((row, answer))
            chosen = self._end if token is None else token
            if chosen != greedy:
                scores[place, chosen] = torch.inf
        self.last_step = time.monotonic()
        _deliver(answers)
        return scores


def _deliver(answers: list[tuple[_Row, Answer]]) -> None:
    """All of a step's news in one call to the event loop."""

    def put() -> None:
        for row, answer in answers:
            row.answers.put_nowait(answer)

    if answers:
        answers[0][0].loop.call_soon_threadsafe(put)


def _failed(answers: "asyncio.Queue[Answer]", error: str | None) -> None:
    if error is not None:
        answers.put_nowait(EngineError(error))
