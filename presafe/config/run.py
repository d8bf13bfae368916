"""Where a run is kept, where it runs, and the model it aligns."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from presafe.config.settings import HowItRuns, Settings


class Run(Settings):
    """Which run this is and where it is kept."""

    name: HowItRuns[str] = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Folder of the run inside `storage`."""
    storage: HowItRuns[str] = "runs"
    """Local folder, or s3:// (`presafe[s3]`) or gs:// (`presafe[gcs]`) URL that every node can reach."""
    seed: int = Field(0, ge=0)
    """Seed of sampling, splits, initialisation and batch order."""
    tracker: HowItRuns[Literal["none", "tensorboard", "mlflow", "wandb"]] = "none"
    """Where training metrics go beside metrics.jsonl; needs presafe[tracking] on the workers."""


class Cluster(Settings):
    """The Ray cluster."""

    address: str | None = None
    """Cluster to join: `auto`, HOST:PORT or ray://; without one, RAY_ADDRESS, else a private local cluster."""
    local_cpus: int = Field(4, ge=1)
    """Logical CPUs of the private local cluster; they may exceed the real ones."""
    object_store_gb: float = Field(1.0, gt=0)
    """Object store of the private local cluster, in GB."""
    variables: dict[str, str | None] = {}
    """Environment variables of every worker (HF_HOME, proxies, a store's region); null passes the driver's own value
    on. Whoever has the cluster's token can read them: secrets are better given to the nodes themselves."""
    placement_minutes: float = Field(60, gt=0)
    """How long a stage waits for nodes to come, busy ones to be free, and environments to be made."""


class Think(Settings):
    """What a model's think format is, for a chat template that does not show it (docs/models.md)."""

    open: str = Field(min_length=1)
    """Opening tag."""
    close: str = Field(min_length=1)
    """Closing tag."""
    opened_by_prompt: bool
    """Whether the rendered prompt ends in the opening tag; if not, the model writes it."""
    empty_block: str | None = None
    """What closes the block without a thought, put behind the prompt; by default the tags as the template has them."""
    template_kwargs: dict[str, Any] = {}
    """Arguments of the chat template, those that turn thinking on."""


class Model(Settings):
    """The reasoning model to align: its folder or hub name, or a function that builds one."""

    path: HowItRuns[str | None] = None
    """Hugging Face folder, URL of one, or hub name."""
    build: str | None = None
    """`module:function`, called with (cache folder, seed, **build_options); returns the model's folder."""
    build_options: dict[str, Any] = {}
    """Keyword arguments of `build`."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Weights' dtype for generation and for the frozen base in training."""
    think: Think | None = None
    """The think format, where the chat template does not show it."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.path is None) == (self.build is None):
            raise ValueError("needs exactly one of `path` and `build`")
        return self
