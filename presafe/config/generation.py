"""How completions are sampled, and which engine makes them."""

from typing import Annotated, Any, Literal

from pydantic import Field, Tag

from presafe.config.settings import HowItRuns, Settings, by_kind
from presafe.config.workers import Pool


class Decoding(Settings):
    """How an engine samples."""

    temperature: float = Field(0.6, ge=0)
    """0 is greedy. 0.6 with top_p 0.95 is what the R1 models' authors advise."""
    top_p: float = Field(0.95, gt=0, le=1)
    """Nucleus of sampling."""
    max_new_tokens: int = Field(ge=1)
    """Longest completion; an answer cut off there is unscored, never safe or unsafe."""


class TransformersSettings(Settings):
    """Hugging Face transformers in the actor's own process, on the CPU or one GPU, in batches of prompts of like
    length: memory grows with `batch_size` times the longest completion."""

    kind: Literal["transformers"] = "transformers"
    """Which engine."""
    batch_size: HowItRuns[int] = Field(32, ge=1)
    """Sequences decoded together."""
    max_prompt_tokens: int = Field(4096, ge=1)
    """Longer prompts are quarantined."""


class BatchingSettings(Settings):
    """Continuous batching with transformers."""

    kv_cache_tokens: HowItRuns[int | None] = Field(None, ge=1)
    """Tokens that the KV cache holds; without it, what a GPU has room for, and on the CPU four of the longest
    conversations. When it is full, the newest completion starts again once there is room."""
    page_size: HowItRuns[int] = Field(32, ge=4)
    """Tokens of a block of the cache."""
    max_batch_tokens: HowItRuns[int] = Field(512, ge=1)
    """Tokens of one forward pass: longer prompts are read in pieces, between which the others go on."""
    max_requests_per_batch: HowItRuns[int] = Field(64, ge=1)
    """Completions that generate at once; more wait in line."""


class PagedSettings(BatchingSettings):
    """Transformers with a paged cache, as the endpoint has it: memory by the tokens that are there, not by the longest
    completion of a batch, and each completion ends for itself."""

    kind: Literal["paged"] = "paged"
    """Which engine."""
    max_prompt_tokens: int = Field(4096, ge=1)
    """Longer prompts are quarantined."""


class VllmServing(Settings):
    """vLLM."""

    max_num_seqs: HowItRuns[int] = Field(256, ge=1)
    """Completions that generate at once; more wait in line."""
    tensor_parallel_size: HowItRuns[int] = Field(1, ge=1)
    """GPUs of one node that share a copy of the model; a worker or replica needs as many (workers.num_gpus)."""
    gpu_memory_utilization: HowItRuns[float] = Field(0.9, gt=0, le=1)
    """Share of the GPU's memory for weights and cache."""
    options: dict[str, Any] = {}
    """Further arguments of vLLM's engine."""


class VllmSettings(VllmServing):
    """vLLM in the actor's own process; needs the extra `presafe[vllm]`."""

    kind: Literal["vllm"]
    """Which engine."""
    max_prompt_tokens: int = Field(4096, ge=1)
    """Longer prompts are quarantined."""


class HttpSettings(Settings):
    """Any endpoint that speaks OpenAI's chat completions."""

    kind: Literal["http"]
    """Which engine."""
    base_url: str
    """URL up to and with /v1."""
    model: str
    """The endpoint's name of the model."""
    api_key_env: HowItRuns[str] = "OPENAI_API_KEY"
    """Environment variable of each worker that holds the key; unset sends none."""
    concurrency: HowItRuns[int] = Field(16, ge=1)
    """Requests in flight, an actor."""
    requests_per_minute: HowItRuns[float | None] = Field(None, gt=0)
    """Rate limit of the whole pool, retries included; its workers get equal shares, evenly spaced. None is none."""
    max_retries: HowItRuns[int] = Field(6, ge=0)
    """Retries of a request that failed for a reason that may pass, after what Retry-After asks, else random backoff."""
    timeout_s: HowItRuns[float] = Field(600, gt=0)
    """Seconds without a byte from the endpoint after which a request has failed."""
    omit: list[Literal["temperature", "top_p", "seed", "max_tokens", "stream_options"]] = []
    """Fields of a request that the endpoint refuses: OpenAI's reasoning models take no temperature and no top_p."""
    max_prompt_characters: int = Field(32_000, ge=1)
    """Longer prompts are quarantined."""
    cot_on: dict[str, Any] = {}
    """Extra fields of the request that turn chain-of-thought on."""
    cot_off: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}}
    """Extra fields of the request that turn chain-of-thought off."""


Engine = Annotated[
    Annotated[TransformersSettings, Tag("transformers")]
    | Annotated[PagedSettings, Tag("paged")]
    | Annotated[VllmSettings, Tag("vllm")]
    | Annotated[HttpSettings, Tag("http")],
    by_kind("transformers"),
]
"""Which engine generates, by `kind`."""


def check_gpus(engine: Settings, workers: Pool) -> None:
    """Raise ValueError where a worker has not as many GPUs as vLLM splits its model into."""
    if isinstance(engine, VllmSettings) and workers.num_gpus not in (0, engine.tensor_parallel_size):
        raise ValueError(
            f"vLLM's tensor_parallel_size is {engine.tensor_parallel_size} and workers.num_gpus "
            f"{workers.num_gpus:g}; a worker needs one GPU for each part of its model"
        )
