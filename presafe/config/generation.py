"""How completions are sampled, and which engine makes them."""

from typing import Annotated, Any, Literal

from pydantic import Field, Tag

from presafe.config.settings import HowItRuns, Settings, by_kind


class Decoding(Settings):
    """How an engine samples."""

    temperature: float = Field(0.6, ge=0)
    """0 is greedy. 0.6 with top_p 0.95 is what the R1 models' authors advise."""
    top_p: float = Field(0.95, gt=0, le=1)
    """Nucleus of sampling."""
    max_new_tokens: int = Field(ge=1)
    """Longest completion; an answer cut off there is unscored, never safe or unsafe."""


class TransformersSettings(Settings):
    """Hugging Face transformers in the actor's own process, on the CPU or one GPU: the default."""

    kind: Literal["transformers"] = "transformers"
    """Which engine."""
    batch_size: HowItRuns[int] = Field(32, ge=1)
    """Sequences decoded together."""
    max_prompt_tokens: int = Field(4096, ge=1)
    """Longer prompts are quarantined."""


class VllmSettings(Settings):
    """vLLM in the actor's own process; needs the extra `presafe[vllm]`."""

    kind: Literal["vllm"]
    """Which engine."""
    max_prompt_tokens: int = Field(4096, ge=1)
    """Longer prompts are quarantined."""
    max_num_seqs: HowItRuns[int] = Field(256, ge=1)
    """Sequences decoded together."""
    tensor_parallel_size: HowItRuns[int] = Field(1, ge=1)
    """GPUs that share one copy of the model; the stage's workers need as many each."""
    gpu_memory_utilization: HowItRuns[float] = Field(0.9, gt=0, le=1)
    """Share of the GPU's memory for weights and cache."""
    options: dict[str, Any] = {}
    """Further keyword arguments of `vllm.LLM`."""


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
    | Annotated[VllmSettings, Tag("vllm")]
    | Annotated[HttpSettings, Tag("http")],
    by_kind("transformers"),
]
"""Which engine generates, by `kind`."""
