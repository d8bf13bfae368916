"""Section `serve`."""

from pydantic import Field

from presafe.config.run import Workers
from presafe.config.settings import Settings
from presafe.gate import GateMode


class Endpoint(Settings):
    """How a model is served, wherever it listens."""

    workers: Workers = Workers()
    """Replicas, and what each one gets."""
    served_name: str = Field("presafe", min_length=1)
    """What clients call the model."""
    gate: GateMode = "off"
    """`off` is the paper: the aligned model decides by itself. `on` adds the safety head's decision."""
    max_new_tokens: int = Field(8192, ge=1)
    """Ceiling of a completion."""
    max_prompt_tokens: int = Field(8192, ge=1)
    """Longer conversations are rejected."""


class Serve(Endpoint):
    """The endpoint of `presafe serve`."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(8000, ge=1, le=65535)
    """Port to listen on."""
