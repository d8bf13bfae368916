"""Generation with vLLM in the actor's own process.

Not through `ray.data.llm`: its processor ends a request at stop strings or a token limit, never where a function of the
text so far says so, which decision-only mode needs. It also brings an actor pool and placement groups of its own, where
the job in `job.py` has one pool, row checkpoint and quarantine for all engines.
"""

import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import AutoConfig

from presafe.config import Decoding, Think, VllmSettings
from presafe.engines.encoding import completion, encode
from presafe.engines.engine import Completion, Decided, Query, Tell, query_seed, told_nobody
from presafe.engines.exported import load_tokenizer, stop_ids
from presafe.errors import user_error
from presafe.records import FinishReason
from presafe.thinking import think_format

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM lays out memory for."""


@dataclass(frozen=True)
class VllmModel:
    """`folder` has the tokenizer (a model's, or an adapter's), `base` the weights, `adapter` what is put on them."""

    folder: str
    base: str
    adapter: str | None
    dtype: str
    think: Think | None = None


@dataclass
class _Running:
    """One query on its way: the tokens so far, and whether they decided it."""

    query: Query
    may_stop: bool
    tokens: list[int] = field(default_factory=list)
    decided: bool = False


class VllmEngine:
    """An Engine. It is given token ids, those of the transformers engine, and gives ids back."""

    def __init__(self, model: VllmModel, settings: VllmSettings, max_new_tokens: int) -> None:
        """Raises UserError where vLLM is missing or the model has no room for `max_new_tokens` behind a prompt."""
        # An engine core in a process of its own outlives an actor that is killed, and keeps the GPU's memory.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        self._vllm = import_vllm()
        self._tokenizer = load_tokenizer(model.folder)
        self._format = think_format(self._tokenizer, model.think)
        self._stop_ids = stop_ids(model.folder) | {self._format.end_id}
        self._max_prompt_tokens, self._names = settings.max_prompt_tokens, itertools.count()
        self._lora = self._vllm.lora.request.LoRARequest("adapter", 1, model.adapter) if model.adapter else None
        options = {
            "model": model.base,
            "dtype": model.dtype,
            "skip_tokenizer_init": True,
            "max_model_len": _max_model_len(model.base, settings.max_prompt_tokens + max_new_tokens),
            "max_num_seqs": settings.max_num_seqs,
            "gpu_memory_utilization": settings.gpu_memory_utilization,
            "tensor_parallel_size": settings.tensor_parallel_size,
            "enable_prefix_caching": True,
            **({"distributed_executor_backend": "mp"} if settings.tensor_parallel_size > 1 else {}),
            **({"enable_lora": True, "max_lora_rank": lora_rank(model.adapter)} if model.adapter else {}),
            **settings.options,
        }
        self._max_model_len, self._max_num_seqs = options["max_model_len"], options["max_num_seqs"]
        self._room(max_new_tokens)
        self.llm = self._vllm.LLM(**options)

    def generate(
        self,
        queries: Sequence[Query],
        decoding: Decoding,
        seed: int,
        decided: Decided | None = None,
        tell: Tell = told_nobody,
    ) -> list[Completion]:
        """One completion a query, in order. The same queries and seed give the same completions."""
        prompts, done = encode(queries, self._format, self._room(decoding.max_new_tokens))
        asked = {place: queries[place] for place in prompts}
        for place, running in self._run(asked, prompts, decoding, seed, decided, tell).items():
            done[place] = self._completion(running)
        return [done[place] for place in range(len(queries))]

    def _run(
        self,
        queries: dict[int, Query],
        prompts: dict[int, list[int]],
        decoding: Decoding,
        seed: int,
        decided: Decided | None,
        tell: Tell,
    ) -> dict[int, _Running]:
        """Give the engine all prompts and step it until none is left; a decided one is taken out at its next token."""
        engine, by_name = self.llm.llm_engine, {}
        result: dict[int, _Running] = {}
        for place, query in queries.items():
            # Names are never used twice: what a step says of a request that was taken out must not reach another.
            name = str(next(self._names))
            result[place] = by_name[name] = _Running(query, decided is not None and query.stop_early)
            sampling = self._sampling(decoding, query_seed(seed, query), deltas=result[place].may_stop)
            engine.add_request(name, {"prompt_token_ids": prompts[place]}, sampling, lora_request=self._lora)
        tokens = 0
        while unfinished := engine.get_num_unfinished_requests():
            tokens += min(unfinished, self._max_num_seqs)  # most come at their request's end alone
            tell(len(queries) - unfinished, tokens)
            for output in engine.step():
                running = by_name[output.request_id]
                self._extend(running, output.outputs[0].token_ids, decided)
                if running.decided and not output.finished:
                    engine.abort_request([output.request_id])
        return result

    def _extend(self, running: _Running, tokens: Sequence[int], decided: Decided | None) -> None:
        """Append new tokens up to the first one at which the answer is decided."""
        for token in tokens:
            if running.decided:
                return
            running.tokens.append(token)
            if decided is not None and running.may_stop and token not in self._stop_ids:
                text = self._tokenizer.decode(running.tokens, skip_special_tokens=False)
                thought = self._format.split_beginning(text, cot=running.query.cot == "on")
                running.decided = thought.closed and decided(thought.answer)

    def _completion(self, running: _Running) -> Completion:
        tokens = running.tokens
        stopped = bool(tokens) and tokens[-1] in self._stop_ids
        text = self._tokenizer.decode(tokens[:-1] if stopped else tokens, skip_special_tokens=False)
        reason: FinishReason = "stop" if stopped else "decided" if running.decided else "length"
        return completion(self._format, running.query.cot, text, len(tokens), reason)

    def _sampling(self, decoding: Decoding, seed: int, *, deltas: bool) -> Any:
        """Whole completions at their end, or token by token where each may be the last one needed."""
        kinds = self._vllm.sampling_params.RequestOutputKind
        return self._vllm.SamplingParams(
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            max_tokens=decoding.max_new_tokens,
            seed=seed if decoding.temperature > 0 else None,
            stop_token_ids=sorted(self._stop_ids),
            detokenize=False,
            output_kind=kinds.DELTA if deltas else kinds.FINAL_ONLY,
        )

    def _room(self, max_new_tokens: int) -> int:
        """Tokens a prompt may have for a whole completion to fit behind it."""
        room: int = min(self._max_prompt_tokens, self._max_model_len - max_new_tokens)
        if room < 1:
            raise user_error(
                found=f"max_new_tokens={max_new_tokens} for a model of {self._max_model_len} positions",
                needed="room for the prompt before it",
                change="lower max_new_tokens, or raise max_model_len in the engine's options",
            )
        return room


def import_vllm() -> Any:
    """The package. Raises UserError where it is missing."""
    try:
        import vllm
        import vllm.lora.request
        import vllm.sampling_params
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise
        raise user_error(
            found="an engine of kind `vllm` on a worker without vLLM",
            needed="the package vllm",
            change="pip install 'presafe[vllm]' on every worker",
        ) from error
    return vllm


def _max_model_len(base: str, wanted: int) -> int:
    """No more positions than the model has: vLLM refuses to start with more."""
    positions: int | None = getattr(AutoConfig.from_pretrained(base).get_text_config(), "max_position_embeddings", None)
    return min(wanted, positions) if positions else wanted


def lora_rank(adapter: str) -> int:
    """The smallest rank of vLLM's that holds all of the adapter's."""
    with open(f"{adapter}/adapter_config.json", encoding="utf-8") as file:
        config = json.load(file)
    largest = max([config["r"], *config.get("rank_pattern", {}).values()])
    fitting = [rank for rank in LORA_RANKS if rank >= largest]
    if not fitting:
        raise user_error(
            found=f"an adapter of rank {largest} in {adapter}",
            needed=f"at most {LORA_RANKS[-1]}, which is what vLLM takes",
            change="merge it into its base",
        )
    return fitting[0]
