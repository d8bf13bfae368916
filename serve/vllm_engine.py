"""vLLM as the endpoint's engine: one AsyncLLM a replica, with the decision inside its sampler (`vllm_steering.py`).

The replica hosts vLLM's own asynchronous engine, as the `LLMServer` of ray.serve.llm does. That server itself is no
use here: behind a handle each token would make one hop more, and its completions API has no way back for p'. Its
engine class is private to Ray (`ray.llm._internal`) and starts vLLM's HTTP layer, which is what this endpoint replaces.
A model that is split (tensor parallelism) lies on the GPUs of one replica: Serve places an actor with all of them on
one node, and vLLM's processes are its children, which see its GPUs and die with it.
"""

import itertools
import os
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMError
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.metrics.loggers import StatLoggerBase

from presafe import storage
from presafe.config import VllmServing
from presafe.engines.card import Card, read_card
from presafe.engines.exported import split_adapter, stop_ids
from presafe.engines.vllm_engine import lora_rank
from presafe.errors import user_error
from presafe.thinking import ThinkFormat
from serve.decision import DecisionReader
from serve.engine import EndReason, EngineError, Load, Sampling, Step
from serve.steering import GateRule, first_tokens
from serve.vllm_steering import NUMBER, PROCESSOR, Board, SteeringConfig

STALL_SECONDS = 600.0
"""A forward pass that takes longer hangs."""


@dataclass(frozen=True)
class Weights:
    """What vLLM loads, and where the decision is among its logits."""

    model: str
    adapter: str | None
    dtype: str
    reader: DecisionReader


class VllmEngine:
    """An Engine."""

    def __init__(
        self, folder: str, card: Card | None, think: ThinkFormat, rule: GateRule, settings: VllmServing, longest: int
    ) -> None:
        """`longest`: tokens of prompt and completion together that must fit.

        Raises UserError where the export in `folder` lacks the weights that vLLM needs.
        """
        weights = find_weights(folder, card, think)
        self._rule, self._stop_ids = rule, stop_ids(weights.model)
        self._begun = first_tokens(think, readout=weights.reader.readout)
        self._lora = LoRARequest("adapter", 1, weights.adapter) if weights.adapter else None
        self._board, board = Board.create()
        steering = SteeringConfig(
            tokenizer=weights.adapter or weights.model,
            rule=rule,
            reader=weights.reader,
            end=min(self._stop_ids),
            board=board,
            replica=os.getpid(),
        )
        os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"  # the other one takes processors of another kind
        self._statistics = _Statistics()
        arguments = AsyncEngineArgs(**_arguments(weights, settings, longest, steering))
        self._llm = AsyncLLM.from_engine_args(arguments, stat_loggers=[lambda *_: self._statistics])
        Path(board).unlink()  # every process that needs it has opened it
        self._numbers = itertools.count(1)
        self._running = self._generated_tokens = 0
        self._last_step = time.monotonic()

    async def generate(self, prompt: Sequence[int], sampling: Sampling, limit: int) -> AsyncGenerator[Step]:
        """See Engine."""
        assert prompt, "an empty prompt makes the model answer nothing in particular"
        if not self._running:
            self._last_step = time.monotonic()
        self._running += 1
        try:
            async with aclosing(self._steps(prompt, sampling, limit)) as steps:
                async for step in steps:
                    yield step
        except VLLMError as error:
            raise EngineError(f"vLLM lost the completion: {error!r}") from error
        finally:
            self._running -= 1

    async def _steps(self, prompt: Sequence[int], sampling: Sampling, limit: int) -> AsyncGenerator[Step]:
        number = next(self._numbers)
        parameters = self._parameters(sampling, max(limit - len(self._begun), 1), number)
        ids: Any = {"prompt_token_ids": [*prompt, *self._begun]}
        decided: float | None = None
        async with aclosing(self._llm.generate(ids, parameters, str(number), lora_request=self._lora)) as outputs:
            async for output in outputs:
                first = None
                if decided is None:
                    decided = first = self._decided(number)
                step = self._step(output.outputs[0], first)
                if not output.finished:
                    yield step
        yield step  # the last one: vLLM's generator is over, and has nothing to abort

    def _step(self, output: Any, first: float | None) -> Step:
        """`first`: p' of a completion's first step."""
        self._last_step = time.monotonic()
        if first is not None and self._rule.refuses(first) and self._rule.action == "refusal":
            return Step((), first, "stop")
        tokens, reason = list(output.token_ids), _reason(output.finish_reason)
        self._generated_tokens += len(tokens)
        ended = reason == "stop" and tokens[-1] in self._stop_ids
        if ended:
            tokens.pop()
        if first is not None:
            tokens = [*self._begun, *tokens]
        return Step(tokens, first, reason, unread_tokens=int(ended))

    def _decided(self, number: int) -> float:
        """p' as the sampling process decided by it: the same number, not another reading of it."""
        probability = self._board.read(number)
        if probability is None:
            raise EngineError("vLLM sampled a completion that nobody decided on")
        return probability

    def _parameters(self, sampling: Sampling, max_tokens: int, number: int) -> SamplingParams:
        return SamplingParams(
            temperature=sampling.temperature if sampling.top_p > 0 else 0.0,  # an empty nucleus is greedy
            top_p=sampling.top_p if sampling.top_p > 0 else 1.0,
            seed=sampling.seed,
            max_tokens=max_tokens,
            stop_token_ids=sorted(self._stop_ids),
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            extra_args={NUMBER: number},
        )

    @property
    def load(self) -> Load:
        return Load(self._running, self._statistics.kv_use, self._generated_tokens)

    def check(self) -> None:
        if self._llm.errored:
            raise EngineError("vLLM's engine process is dead")
        stalled = time.monotonic() - self._last_step
        if self._running and stalled > STALL_SECONDS:
            raise EngineError(f"no token for {stalled:.0f} s")

    def close(self) -> None:
        self._llm.shutdown()


def find_weights(folder: str, card: Card | None, think: ThinkFormat) -> Weights:
    """Of the export in `folder`, or of a plain model, which has no card and no head."""
    if card is None:
        base, adapter = split_adapter(folder)
        return Weights(storage.local_folder(base), adapter, "auto", DecisionReader(None, 0.0, None, ()))
    if card.head.kind == "linear" and card.head.layer == -1:
        return _with_gate_row(storage.join(folder, "merged-gate"), card)
    token = think.decision_token if card.head.kind == "readout" else None
    reader = DecisionReader(None, 0.0, token, ())
    for whole in ("full", "merged"):
        if storage.exists(storage.join(folder, whole)):
            return Weights(storage.local_folder(storage.join(folder, whole)), None, card.dtype, reader)
    adapter = storage.local_folder(storage.join(folder, "adapter"))
    return Weights(storage.local_folder(card.base_model), adapter, card.dtype, reader)


def _with_gate_row(folder: str, card: Card) -> Weights:
    row = read_card(folder).vocabulary_row if storage.exists(folder) else None
    if row is None:
        raise user_error(
            found=f"an export with a linear head but without {folder}",
            needed="the head as a row of the vocabulary: vLLM shows no hidden states",
            change="export it again with align.merge_gate=true, or serve it with engine=transformers",
        )
    reader = DecisionReader(row.token_id, row.bias, None, tuple(row.suppressed))
    return Weights(storage.local_folder(folder), None, card.dtype, reader)


def _arguments(weights: Weights, settings: VllmServing, longest: int, steering: SteeringConfig) -> dict[str, Any]:
    """vLLM's engine arguments; what the decision rests on comes last, where no option can change it."""
    parallel = settings.tensor_parallel_size
    return {
        "model": weights.model,
        "dtype": weights.dtype,
        "max_model_len": longest,
        "max_num_seqs": settings.max_num_seqs,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "tensor_parallel_size": parallel,
        **({"distributed_executor_backend": "mp"} if parallel > 1 else {}),
        **({"enable_lora": True, "max_lora_rank": lora_rank(weights.adapter)} if weights.adapter else {}),
        **settings.options,
        "skip_tokenizer_init": True,
        "disable_log_stats": True,  # `_Statistics` alone
        "logits_processors": [PROCESSOR],
        "additional_config": steering,
    }


def _reason(found: str | None) -> EndReason | None:
    """Raises EngineError where vLLM gave the completion up."""
    match found:
        case None | "stop" | "length":
            return found
        case _:
            raise EngineError(f"vLLM ended the completion: {found}")


class _Statistics(StatLoggerBase):  # type: ignore[misc] # vLLM has no types here
    """The one of vLLM's statistics that is shown."""

    def __init__(self) -> None:
        self.kv_use = 0.0

    def record(self, scheduler_stats: Any, *_: Any, **__: Any) -> None:
        if scheduler_stats is not None:
            self.kv_use = scheduler_stats.kv_cache_usage

    def log_engine_initialized(self) -> None:
        pass
