"""Where a stage's workers run, how many there are, and what each gets."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from presafe.config.settings import Settings


class Environment(Settings):
    """Which Python runs a worker, where it is not the one that runs Ray on the node: exactly one of these."""

    python: str | None = Field(None, pattern=r"^/")
    """Absolute path of an interpreter on the nodes, with the same Ray and the same Python version."""
    uv: list[str] | None = Field(None, min_length=1)
    """Packages that uv installs on the node, beside the ones that are there, once a node."""
    pip: list[str] | None = Field(None, min_length=1)
    """The same by pip."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if sum(value is not None for _, value in self) != 1:
            raise ValueError(f"needs exactly one of {', '.join(type(self).model_fields)}")
        return self


class Placement(Settings):
    """What one Ray worker gets, and where it may run."""

    num_cpus: float = Field(1, gt=0)
    """CPUs a worker."""
    num_gpus: float = Field(0, ge=0)
    """GPUs a worker; 0 runs on the CPU."""
    memory_gb: float | None = Field(None, gt=0)
    """Memory of the node, in GB of 1e9 bytes, that Ray keeps for a worker; without it none is reserved."""
    pool: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Nodes whose label `presafe-pool` is this; without it, and on a private cluster, any node will do."""
    accelerator_type: str | None = None
    """Kind of GPU, as Ray names it: `A100`, `H100`, `L40S`."""
    environment: Environment | None = None
    """Python of the workers; without it the one that runs Ray on their node."""


class Workers(Placement):
    """Where a stage trains or serves: so many workers, each with so much."""

    num_workers: int = Field(1, ge=1)
    """Ranks of a Ray Train group, or replicas of the endpoint."""


class Sized(Placement):
    """Workers whose memory is checked before they start."""

    gpu_memory_gb: float | None = Field(None, gt=0)
    """Memory of one GPU, in GB of 1e9 bytes, for the preflight; a smaller GPU is refused. Without it, one is asked."""


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
    """Actors; `auto` takes as many as there is room for, and more when nodes come."""
