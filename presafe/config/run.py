"""Where a run is kept, where it runs, and the model it aligns."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from presafe.config.settings import HowItRuns, Settings


class Placement(Settings):
    """What one Ray worker gets."""

    num_cpus: float = Field(1, gt=0)
    """CPUs a worker."""
    num_gpus: float = Field(0, ge=0)
    """GPUs a worker; 0 runs on the CPU."""


class Workers(Placement):
    """Where a stage trains or serves: so many workers, each with so much."""

    num_workers: int = Field(1, ge=1)
    """Ranks of a Ray Train group, or replicas of the endpoint."""


class Sized(Placement):
    """Workers whose memory is checked before they start."""

    gpu_memory_gb: float | None = Field(None, gt=0)
    """Memory of one GPU, in GB of 1e9 bytes, for the preflight; without it, a GPU of the cluster is asked."""


class Group(Sized):
    """Where the alignment trains: one rank a worker."""

    num_workers: Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = 1
    """Ranks of the Ray Train group; [MIN, MAX] trains on what is there and follows nodes that come and go."""
    max_failures: int = Field(3, ge=0)
    """Worker losses the run survives; preempted nodes do not count."""
    timeout_minutes: float = Field(30, gt=0)
    """A step that takes longer, or one collective operation, counts as hung: as a lost worker."""

    @property
    def limits(self) -> tuple[int, int]:
        """Fewest and most ranks."""
        return (self.num_workers, self.num_workers) if isinstance(self.num_workers, int) else self.num_workers

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        fewest, most = self.limits
        if fewest > most:
            raise ValueError(f"num_workers [{fewest}, {most}] needs [MIN, MAX]: exchange them")
        return self


class Pool(Sized):
    """Where a stage generates: a pool of Ray Data actors, each with so much."""

    num_workers: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    """Actors; `auto` takes as many as the cluster, grown to its limit, has room for."""


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
