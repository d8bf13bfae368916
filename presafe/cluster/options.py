"""What Ray is told of one worker: its resources, the nodes it may run on, and the Python that runs it."""

from typing import Any

from presafe import private_cluster
from presafe.config import Environment, Placement

POOL_LABEL = "presafe-pool"
"""Label of a Ray node, whose value is the pool that the node belongs to."""
SOME = 0.001
"""How much of a resource `accelerator_type:KIND` Ray itself takes for a worker."""


def actor_options(workers: Placement) -> dict[str, Any]:
    """Options of a Ray task or actor, of Ray Data's `map_batches` and of a Serve replica, for one of `workers`."""
    options: dict[str, Any] = {"num_cpus": workers.num_cpus, "num_gpus": workers.num_gpus}
    if workers.memory_gb is not None:
        options["memory"] = _memory(workers.memory_gb)
    if workers.accelerator_type is not None:
        options["accelerator_type"] = workers.accelerator_type
    if selector := label_selector(workers):
        options["label_selector"] = selector
    if workers.environment is not None:
        options["runtime_env"] = runtime_env(workers.environment)
    return options


def bundle(workers: Placement) -> dict[str, float]:
    """The resources of one of `workers`, by Ray's names."""
    resources = {"CPU": workers.num_cpus, "GPU": workers.num_gpus}
    if workers.memory_gb is not None:
        resources["memory"] = _memory(workers.memory_gb)
    if workers.accelerator_type is not None:
        resources[f"accelerator_type:{workers.accelerator_type}"] = SOME
    return {name: amount for name, amount in resources.items() if amount > 0}


def label_selector(workers: Placement) -> dict[str, str]:
    """Labels of the nodes that `workers` may run on; a private cluster is one machine, which is every pool."""
    anywhere = workers.pool is None or private_cluster.folder() is not None
    return {} if anywhere else {POOL_LABEL: str(workers.pool)}


def runtime_env(environment: Environment | None) -> dict[str, Any]:
    """Ray's runtime environment of a worker, beside what the job has."""
    if environment is None:
        return {}
    if environment.python is not None:
        return {"py_executable": environment.python}
    return {"uv": environment.uv} if environment.uv is not None else {"pip": environment.pip}


def _memory(gb: float) -> int:
    return int(gb * 1e9)
