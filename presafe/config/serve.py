"""Section `serve`."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from presafe.config.generation import BatchingSettings, VllmServing
from presafe.config.settings import Settings, on_or_off
from presafe.config.workers import Workers
from presafe.decision.rule import GateAction, ServingGate


class Access(Settings):
    """Who may ask, and how much."""

    keys: str | None = None
    """File of API keys (`presafe key`), read again when it changes; without one, anybody may ask."""
    max_body_kb: int = Field(1024, ge=1)
    """Largest request body, in KB of 1024 bytes."""
    max_choices: int = Field(8, ge=1)
    """Most completions a request (`n`)."""
    max_messages: int = Field(1024, ge=1)
    """Most messages of a conversation: each costs a pass of the template and of the tokenizer, whatever it says."""
    max_parts: int = Field(2048, ge=1)
    """Most parts of all its messages together."""
    max_bytes_per_token: int = Field(16, ge=1)
    """Text of more bytes (UTF-8) than this times max_prompt_tokens is told to be too long before it is tokenised.
    Written languages and code have 2 to 8 bytes a token; only long runs of the same sign (white space, dashes) have
    more, and a text of those alone may be refused although it would fit."""
    timeout_s: float = Field(600, gt=0)
    """Longest time a completion may take, in seconds."""
    max_ongoing_requests: int = Field(64, ge=1)
    """Requests a replica holds; further ones are told 503 and to come again."""


class Audit(Settings):
    """The decision log."""

    folder: str | None = None
    """Local folder on every node; without one, nothing is logged."""
    text: bool = False
    """Whether conversations are logged, beside their hashes."""
    hash_key_file: str | None = None
    """File with a secret: conversations are hashed with it (HMAC), so that short ones cannot be looked up."""
    max_mb: float = Field(100, gt=0)
    """A file of the log ends at this size, in MB of 1e6 bytes."""
    files: int = Field(10, ge=2)
    """Files that are kept, a replica, the one being written included."""


class Drift(Settings):
    """The alarm on the distribution of the decision's probability."""

    window: int = Field(1000, ge=100)
    """Decisions that are compared, a replica."""
    reference: str | None = None
    """Decision log to compare with; without one, the first `window` decisions of the replica."""


class Autoscaling(Settings):
    """Replicas by load, instead of a fixed number."""

    min_replicas: int = Field(1, ge=0)
    """0 lets the endpoint sleep: the first request then waits for a model to load."""
    max_replicas: int = Field(..., ge=1)
    """Most of them; each of the size of `workers`."""
    target_ongoing_requests: float = Field(24, gt=0)
    """Completions a replica should have; well below access.max_ongoing_requests: a 7B-14B takes minutes to load."""
    upscale_delay_s: float = Field(15, ge=0)
    """How long the load must last before a replica is added."""
    downscale_delay_s: float = Field(600, ge=0)
    """How long it must be gone before one is taken away."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        return self


class EndpointSettings(Settings):
    """How a model is served, wherever it listens."""

    workers: Workers = Workers()
    """Replicas, and what each one gets."""
    autoscaling: Autoscaling | None = None
    """Replicas by load; `workers.num_workers` is then not used."""
    drain_s: float = Field(600, ge=0)
    """How long a replica that is to go may finish its completions."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """`vllm` needs presafe[vllm] and a model with `merged-gate/` or a readout head."""
    batching: BatchingSettings = BatchingSettings()
    """Of engine `transformers`."""
    vllm: VllmServing = VllmServing()
    """Of engine `vllm`."""
    routing: Literal["load", "session"] = "load"
    """Which replica gets a request: `load`, the less busy of two; `session`, where clients send `X-Session-Id`, the one
    that had the others of that session, whose beginning is in its cache, unless it has many more requests than
    another. Of engine `vllm`; with one replica it changes nothing."""
    served_name: str = Field("presafe", min_length=1)
    """What clients call the model."""
    gate: Annotated[ServingGate, BeforeValidator(on_or_off)] = "off"
    """`off` is the paper: the aligned model decides by itself. `on` adds the head's decision; `shadow` only logs it."""
    gate_action: GateAction = "refusal"
    """What the gate does above its threshold: the card's refusal, or the think block is closed and the CoT-OFF state
    answers (a false alarm then costs the reasoning, not the answer): path `answer`, unless it refuses."""
    threshold: float | None = Field(None, ge=0, le=1)
    """The gate's threshold; without one, the card's, which was calibrated at export."""
    refusal_finish_reason: Literal["stop", "content_filter"] = "stop"
    """What clients are told as the `finish_reason` of a whole refusal; `content_filter` is OpenAI's word for an answer
    that was withheld, and some clients raise an error on it."""
    refusal_field: bool = True
    """Whether a refusal in the endpoint's own words stands in OpenAI's `message.refusal` beside `content`. Some clients
    show both (the Vercel AI SDK), or raise an error (pydantic-ai): set it to false for them."""
    reveal_probability: bool = True
    """Whether clients see the probability and the threshold. An attacker can climb along them."""
    unaligned: bool = False
    """Serve a plain model without a head, to compare with: it refuses nothing that it did not refuse before."""
    compare_with: str | None = None
    """Relative URL of another endpoint, which the playground shows beside this one."""
    max_new_tokens: int = Field(8192, ge=1)
    """Ceiling of a completion."""
    max_prompt_tokens: int = Field(8192, ge=1)
    """Longer conversations are rejected."""
    access: Access = Access()
    """Keys and limits."""
    audit: Audit = Audit()
    """The decision log."""
    drift: Drift = Drift()
    """The drift alarm."""

    @model_validator(mode="after")
    def _gate_has_a_head(self) -> Self:
        if self.unaligned and self.gate != "off":
            raise ValueError("a model without a head (unaligned) has no gate: set gate to off")
        gpus, wanted = self.workers.num_gpus, self.vllm.tensor_parallel_size
        if self.engine == "vllm" and wanted > max(1, gpus):
            raise ValueError(f"vllm.tensor_parallel_size {wanted} needs workers.num_gpus {wanted}, found {gpus:g}")
        return self

    @model_validator(mode="after")
    def _sessions_have_a_cache(self) -> Self:
        if self.routing == "session" and self.engine != "vllm":
            raise ValueError("routing session is for the prefix cache of engine vllm: set routing to load")
        if self.routing == "session" and self.vllm.options.get("enable_prefix_caching") is False:
            raise ValueError("routing session is for the prefix cache, which vllm.options switches off: set it to load")
        return self


class Serve(EndpointSettings):
    """The endpoint of `presafe serve`."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(8000, ge=1, le=65535)
    """Port to listen on."""
    log_folder: str | None = None
    """Folder of `serve-PORT.log`; without one, `presafe` in $XDG_STATE_HOME or ~/.local/state."""
