"""The engine's server: one prefill that also decides, then decoding from its cache, one completion at a time."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from presafe.engines.exported import LoadedModel
from presafe.gate import GateMode, decide
from serve.completion import Completion, Decided, Event, Finished, Sampling
from serve.text import Text

STALL_SECONDS = 600.0
"""A forward pass that takes longer hangs."""


class Generator:
    """Generates with one exported model, in the thread of its caller."""

    def __init__(self, loaded: LoadedModel, gate: GateMode, max_prompt_tokens: int, max_new_tokens: int) -> None:
        assert loaded.card is not None, "an exported model has a card"
        assert loaded.reader is not None, "an exported model has a head"
        self.format, self.card, self.gate = loaded.format, loaded.card, gate
        self._model: Any = loaded.model  # transformers types neither its forward pass nor its cache
        self._reader = loaded.reader
        self._end = loaded.stop_ids
        self._context: int = self._model.config.max_position_embeddings
        self._max_new_tokens = max_new_tokens
        path_a = len(self.format.refuse_completion(""))
        self.max_prompt_tokens = min(max_prompt_tokens, self._context - path_a)
        """Longest prompt, behind which there is always room for Path A."""
        self.generated_tokens = 0
        """Tokens generated so far, of all completions."""
        self.last_progress = time.monotonic()
        """When the last forward pass ended."""

    def room(self, prompt_tokens: int) -> int:
        """Most new tokens behind a prompt of so many."""
        return min(self._max_new_tokens, self._context - prompt_tokens)

    def complete(self, prompt: list[int], sampling: Sampling, cancelled: threading.Event) -> Iterator[Event]:
        """The events of one completion. Once `cancelled` is set it ends at the next token, without Finished."""
        if cancelled.is_set():
            return
        refuse_probability, logits, cache = self.prefill(prompt)
        if self.gate == "on" and decide(refuse_probability, self.card.threshold) == "refuse":
            yield from (
                Decided("refuse", refuse_probability),
                Text("answer", self.card.refusal),
                Finished("stop", 0, 0),
            )
            return
        completion = Completion(self.format, sampling, refuse_probability, self.room(len(prompt)))
        while not cancelled.is_set():
            token = completion.choose(logits)
            self.generated_tokens += 1
            if token in self._end:
                yield from completion.finish("stop", unread_tokens=1)
                return
            yield from completion.push(token)
            if completion.over:
                yield from completion.finish(completion.over, unread_tokens=0)
                return
            logits = self.step(completion.pending, cache)

    @torch.inference_mode()
    def prefill(self, prompt: list[int]) -> tuple[float, torch.Tensor, Any]:
        """The only pass over the prompt: refuse probability, the first token's logits [vocabulary], KV cache."""
        reading = self._reader.read(self._model, self._tensor(prompt), cache=True)
        logits = self._model.get_output_embeddings()(reading.pre_cot[0])
        self.last_progress = time.monotonic()
        return reading.probabilities[0], logits, reading.cache

    @torch.inference_mode()
    def step(self, tokens: list[int], cache: Any) -> torch.Tensor:
        """Logits [vocabulary] behind `tokens`, which the cache grows by."""
        output = self._model(input_ids=self._tensor(tokens), past_key_values=cache, use_cache=True, logits_to_keep=1)
        self.last_progress = time.monotonic()
        logits: torch.Tensor = output.logits[0, -1]
        return logits

    def _tensor(self, tokens: list[int]) -> torch.Tensor:
        return torch.tensor([tokens], device=self._model.device)

    def check(self) -> None:
        """Raise RuntimeError where the device no longer computes (a CUDA error lasts as long as its process)."""
        if torch.ones(2, device=self._model.device).sum().item() != 2:
            raise RuntimeError(f"the device {self._model.device} computes wrong sums")


class Engine:
    """A Generator in a thread of its own, for an event loop: completions wait in line and can be called off."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.ongoing = 0
        """Completions in line, the running one included."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="generation")
        self._running_since: float | None = None

    async def stream(self, prompt: list[int], sampling: Sampling) -> AsyncGenerator[Event]:
        """The events of one completion. Closing the iterator, or cancelling its task, stops the generation."""
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        cancelled = threading.Event()

        def generate() -> None:
            self._running_since = time.monotonic()
            try:
                for event in self.generator.complete(prompt, sampling, cancelled):
                    loop.call_soon_threadsafe(events.put_nowait, event)
            finally:
                self._running_since = None
                loop.call_soon_threadsafe(events.put_nowait, None)

        self.ongoing += 1
        done = asyncio.wrap_future(self._thread.submit(generate))
        done.add_done_callback(self._count_down)
        try:
            while (event := await events.get()) is not None:
                yield event
            await done
        finally:
            cancelled.set()

    def check(self) -> None:
        """Raise RuntimeError where the generation hangs or its device is broken."""
        if since := self._running_since:
            stalled = time.monotonic() - max(since, self.generator.last_progress)
            if stalled > STALL_SECONDS:
                raise RuntimeError(f"no token for {stalled:.0f} s")
        self.generator.check()

    def _count_down(self, _: "asyncio.Future[None]") -> None:
        self.ongoing -= 1
