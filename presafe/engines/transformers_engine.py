"""Batched generation with Hugging Face transformers, on the CPU or one GPU.

Prompts are sorted by length, so that a batch pads little, and what all prompts of a batch begin with is computed once.
"""

import copy
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, StoppingCriteriaList

from presafe.config import Decoding, TransformersSettings
from presafe.engines.encoding import completion, encode
from presafe.engines.engine import Completion, IsDecided, Query, Tell, told_nobody
from presafe.engines.exported import LoadedModel
from presafe.records import FinishReason
from presafe.thinking import ThinkFormat

MIN_SHARED = 16
"""Tokens that a batch must share for their cache to be worth a forward of its own."""


@dataclass(frozen=True)
class _Job:
    """One prompt on its way: its place among the queries, and its ids."""

    place: int
    ids: list[int]
    query: Query


class TransformersEngine:
    """An Engine of models' own text. Memory grows with `batch_size` times the longest completion."""

    def __init__(self, loaded: LoadedModel, settings: TransformersSettings) -> None:
        self._model, self._tokenizer, self._format = loaded.model, loaded.tokenizer, loaded.format
        self._settings, self._stop_ids = settings, loaded.stop_ids
        self._end_ids = torch.tensor(sorted(self._stop_ids | {self._tokenizer.pad_token_id}), device=self._model.device)
        self._shared: tuple[list[int], Any] = ([], None)

    @torch.inference_mode()
    def generate(
        self,
        queries: Sequence[Query],
        decoding: Decoding,
        seed: int,
        decided: IsDecided | None = None,
        tell: Tell = told_nobody,
    ) -> list[Completion]:
        """One completion a query, in order. The same queries and seed give the same completions."""
        assert all(query.prefill is None for query in queries), "its completions begin behind the prompt"
        prompts, done = encode(queries, self._format, self._settings.max_prompt_tokens)
        jobs = [_Job(place, ids, queries[place]) for place, ids in prompts.items()]
        config = self._generation_config(decoding)
        for batch in self._batches(jobs):
            torch.manual_seed(_batch_seed(seed, batch))
            tokens = sum(completion.num_tokens for completion in done.values())
            told = _Told(tell, len(done), tokens, len(batch), self._end_ids)
            completions = self._generate(batch, config, decided, told)
            done.update(zip((job.place for job in batch), completions, strict=True))
            tell(len(done), tokens + sum(completion.num_tokens for completion in completions))
        return [done[place] for place in range(len(queries))]

    def _batches(self, jobs: list[_Job]) -> Iterator[list[_Job]]:
        """By length; prompts that may stop early apart from the others, who would make them wait."""
        for early in (False, True):
            order = sorted((job for job in jobs if job.query.stop_early == early), key=lambda job: len(job.ids))
            for start in range(0, len(order), self._settings.batch_size):
                yield order[start : start + self._settings.batch_size]

    def _generate(
        self, batch: list[_Job], config: GenerationConfig, decided: IsDecided | None, told: "_Told"
    ) -> list[Completion]:
        stop = None
        if decided is not None and batch[0].query.stop_early:
            stop = _StopDecided(batch, self._format, decided, self._stop_ids)
        tokens = self._tokens(batch, config, told, stop)
        decided_at = stop.decided_at if stop else {}
        return [self._completion(job, tokens[row], decided_at.get(row)) for row, job in enumerate(batch)]

    def _tokens(
        self,
        batch: list[_Job],
        config: GenerationConfig,
        told: "_Told",
        stop: "_StopDecided | None",
    ) -> list[list[int]]:
        """New tokens of each row, padded behind its end."""
        shared = _common_prefix([job.ids for job in batch])
        if len(batch) == 1 or len(shared) < MIN_SHARED:
            shared = []
        ids, mask = self._pad([job.ids for job in batch], len(shared))
        if stop is not None:
            stop.prompt_width = ids.shape[1]
        output = self._model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            past_key_values=self._cache(shared, len(batch)) if shared else None,
            stopping_criteria=StoppingCriteriaList([told] if stop is None else [told, stop]),
        )
        tokens: list[list[int]] = output[:, ids.shape[1] :].tolist()
        return tokens

    def _cache(self, shared: list[int], copies: int) -> DynamicCache:
        """Keys and values of `shared`, once for each row; the last prefix is kept, since batches often share it."""
        if self._shared[0] != shared:
            ids = torch.tensor([shared], device=self._model.device)
            self._shared = shared, self._model.base_model(input_ids=ids, use_cache=True).past_key_values
        cache = copy.deepcopy(self._shared[1])
        cache.batch_repeat_interleave(copies)
        return cache

    def _pad(self, prompts: list[list[int]], shared: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and attention mask [batch, width], padded on the left but behind the first `shared` tokens."""
        assert all(prompts), "an empty prompt has no last position"
        width = max(map(len, prompts))
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([p[:shared] + [pad] * (width - len(p)) + p[shared:] for p in prompts])
        mask = torch.tensor([[1] * shared + [0] * (width - len(p)) + [1] * (len(p) - shared) for p in prompts])
        return ids.to(self._model.device), mask.to(self._model.device)

    def _generation_config(self, decoding: Decoding) -> GenerationConfig:
        sampled = decoding.temperature > 0
        return GenerationConfig(
            do_sample=sampled,
            temperature=decoding.temperature if sampled else None,
            top_p=decoding.top_p if sampled else None,
            top_k=0 if sampled else None,
            max_new_tokens=decoding.max_new_tokens,
            eos_token_id=sorted(self._stop_ids),
            pad_token_id=self._tokenizer.pad_token_id,
        )

    def _completion(self, job: _Job, tokens: list[int], decided_at: int | None) -> Completion:
        end = next((k for k, token in enumerate(tokens) if token in self._stop_ids), None)
        reason: FinishReason = "length" if end is None else "stop"
        used = len(tokens) if end is None else end + 1
        if decided_at is not None and decided_at <= used:
            reason, used, end = "decided", decided_at, decided_at
        text = self._tokenizer.decode(tokens[:end], skip_special_tokens=False)
        found = completion(self._format, job.query.cot, text, used, reason)
        return replace(found, prompt_tokens=len(job.ids))


class _Told:
    """Stopping criterion that stops nothing: it tells how far a batch is, behind `done` queries and their `tokens`."""

    def __init__(self, tell: Tell, done: int, tokens: int, rows: int, end_ids: torch.Tensor) -> None:
        self._tell, self._done, self._end_ids = tell, done, end_ids
        self._tokens = torch.tensor(tokens, device=end_ids.device)
        self._running = torch.ones(rows, dtype=torch.bool, device=end_ids.device)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:  # noqa: ARG002
        self._tokens += self._running.sum()
        self._running &= ~torch.isin(input_ids[:, -1], self._end_ids)
        self._tell(self._done + len(self._running) - int(self._running.sum()), int(self._tokens))
        return torch.zeros_like(self._running)


class _StopDecided:
    """Stopping criterion: ends a row once its answer is decided; `decided_at` has the tokens that took, by row."""

    prompt_width = 0

    def __init__(self, batch: list[_Job], think: ThinkFormat, decided: IsDecided, stop_ids: frozenset[int]) -> None:
        self._batch, self._format, self._decided = batch, think, decided
        self._ended: set[int] = set()
        self._stop_ids, self.decided_at = stop_ids, dict[int, int]()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:  # noqa: ARG002
        completions = input_ids[:, self.prompt_width :]
        last = completions[:, -1].tolist()
        self._ended |= {row for row, token in enumerate(last) if token in self._stop_ids}
        texts = self._format.tokenizer.batch_decode(completions)
        for row, (job, text) in enumerate(zip(self._batch, texts, strict=True)):
            if row not in self.decided_at and row not in self._ended:
                thought = self._format.split_beginning(text, cot=job.query.cot == "on")
                if thought.closed and self._decided(thought.answer):
                    self.decided_at[row] = completions.shape[1]
        stopped = [row in self.decided_at for row in range(len(self._batch))]
        return torch.tensor(stopped, device=input_ids.device)


def _common_prefix(prompts: Sequence[list[int]]) -> list[int]:
    """What all prompts begin with, without the last token of any: generation needs one to start from."""
    first, last = min(prompts), max(prompts)
    limit = min(map(len, prompts)) - 1
    shared = next((k for k in range(limit) if first[k] != last[k]), limit)
    return first[:shared]


def _batch_seed(seed: int, batch: list[_Job]) -> int:
    """A batch draws by its content, not by when or where it runs: another number of actors samples the same."""
    content = [(job.ids, job.query.sample) for job in batch]
    digest = hashlib.sha256(repr((seed, content)).encode()).digest()
    return int.from_bytes(digest[:4], "big")
