"""vLLM: one AsyncLLM a process, with the decision inside its sampler (`vllm_steering.py`).

A replica hosts vLLM's own asynchronous engine, as the `LLMServer` of ray.serve.llm does. That server itself is no
use here: behind a handle each token would make one hop more, and its completions API has no way back for p'. Its
engine class is private to Ray (`ray.llm._internal`) and starts vLLM's HTTP layer, which is what this endpoint replaces.
A model that is split (tensor parallelism) lies on the GPUs of one replica: Serve places an actor with all of them on
one node, and vLLM's processes are its children, which see its GPUs and die with it. So are those of a job's actor; not
through `ray.data.llm`, whose processor ends a request at stop strings or a token limit alone, has no way back for p',
and brings a pool of its own, where `job.py` has one pool, row checkpoint and quarantine for all engines.
"""

import itertools
import os
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMError
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.metrics.loggers import StatLoggerBase

from presafe.config import VllmServing
from presafe.decision.rule import GateRule
from presafe.decision.steering import first_tokens
from presafe.engines.exported import stop_ids
from presafe.engines.streaming import EndReason, EngineError, Load, Sampling, Step
from presafe.engines.vllm_model import VllmModel, lora_rank
from presafe.engines.vllm_steering import DECISION, NUMBER, PROCESSOR, Board, SteeringConfig
from presafe.records import DecisionMode
from presafe.thinking import ThinkFormat

STALL_SECONDS = 600.0
"""A forward pass that takes longer hangs."""


class VllmEngine:
    """A StreamingEngine."""

    def __init__(
        self, model: VllmModel, think: ThinkFormat, rule: GateRule, settings: VllmServing, longest: int
    ) -> None:
        """`longest`: tokens of prompt and completion together that must fit."""
        self._rule, self._stop_ids = rule, stop_ids(model.weights) | {think.end_id}
        self._begun = first_tokens(think, readout=model.reader.readout)
        self._lora = LoRARequest("adapter", 1, model.adapter) if model.adapter else None
        self._board, board = Board.create()
        steering = SteeringConfig(
            tokenizer=model.tokenizer,
            think=model.think,
            rule=rule,
            reader=model.reader,
            end=min(self._stop_ids),
            board=board,
            replica=os.getpid(),
        )
        os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"  # the other one takes processors of another kind
        self._statistics = _Statistics()
        arguments = AsyncEngineArgs(**_arguments(model, settings, longest, steering))
        self._llm = AsyncLLM.from_engine_args(arguments, stat_loggers=[lambda *_: self._statistics])
        Path(board).unlink()  # every process that needs it has opened it
        self._numbers = itertools.count(1)
        self._running = self._generated_tokens = 0
        self._last_step = time.monotonic()

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
        if not self._running:
            self._last_step = time.monotonic()
        self._running += 1
        begun = [] if decision is None else self._begun
        number = next(self._numbers)
        parameters = self._parameters(sampling, max(limit - len(begun), 1), number, decision, whole=whole)
        ids: Any = {"prompt_token_ids": [*prompt, *begun]}
        outputs = self._llm.generate(ids, parameters, str(number), lora_request=self._lora)
        try:
            async with aclosing(self._steps(outputs, number, begun)) as steps:
                async for step in steps:
                    yield step
        except VLLMError as error:
            raise EngineError(f"vLLM lost the completion: {error!r}") from error
        finally:
            self._running -= 1

    async def _steps(self, outputs: AsyncGenerator[Any], number: int, begun: Sequence[int]) -> AsyncGenerator[Step]:
        decided: float | None = None
        async with aclosing(outputs):
            async for output in outputs:
                first = None
                if decided is None:
                    decided = first = self._decided(number)
                step = self._step(output.outputs[0], first, begun)
                if not output.finished:
                    yield step
        yield step  # the last one: vLLM's generator is over, and has nothing to abort

    def _step(self, output: Any, first: float | None, begun: Sequence[int]) -> Step:
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
            tokens = [*begun, *tokens]
        return Step(tokens, first, reason, unread_tokens=int(ended))

    def _decided(self, number: int) -> float:
        """p' as the sampling process decided by it: the same number, not another reading of it."""
        probability = self._board.read(number)
        if probability is None:
            raise EngineError("vLLM sampled a completion that nobody decided on")
        return probability

    def _parameters(
        self, sampling: Sampling, max_tokens: int, number: int, decision: DecisionMode | None, *, whole: bool
    ) -> SamplingParams:
        return SamplingParams(
            temperature=sampling.temperature if sampling.top_p > 0 else 0.0,  # an empty nucleus is greedy
            top_p=sampling.top_p if sampling.top_p > 0 else 1.0,
            seed=sampling.seed,
            max_tokens=max_tokens,
            stop_token_ids=sorted(self._stop_ids),
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY if whole else RequestOutputKind.DELTA,
            extra_args={NUMBER: number, DECISION: decision},
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


def _arguments(model: VllmModel, settings: VllmServing, longest: int, steering: SteeringConfig) -> dict[str, Any]:
    """vLLM's engine arguments; what the decision rests on comes last, where no option can change it."""
    parallel = settings.tensor_parallel_size
    return {
        "model": model.weights,
        "dtype": model.dtype,
        "max_model_len": longest,
        "max_num_seqs": settings.max_num_seqs,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "tensor_parallel_size": parallel,
        **({"distributed_executor_backend": "mp"} if parallel > 1 else {}),
        **({"enable_lora": True, "max_lora_rank": lora_rank(model.adapter)} if model.adapter else {}),
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
