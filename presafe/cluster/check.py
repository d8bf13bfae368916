"""What is looked at before a stage begins: room for its workers, and their Python."""

from collections.abc import Iterable

from presafe.cluster.demand import Demand
from presafe.cluster.placing import wait_for_room
from presafe.cluster.python_check import check_python
from presafe.config import Cluster, Engine, HttpSettings, VllmSettings

LOCAL_MODELS = ("torch", "transformers")
"""Packages of workers that load a model themselves."""


def check_cluster(demand: Demand, cluster: Cluster, packages: Iterable[str] = ()) -> None:
    """Wait for room on the connected cluster. Raises UserError where none can come, or a worker lacks a package."""
    wait_for_room(demand, cluster.placement_minutes)
    check_python(demand, ["presafe", *packages], cluster.placement_minutes)


def packages_of(*engines: Engine) -> list[str]:
    """The packages that workers with these engines import, each once."""
    needed: dict[str, None] = {}
    for engine in engines:
        if not isinstance(engine, HttpSettings):
            needed |= dict.fromkeys(LOCAL_MODELS)
        if isinstance(engine, VllmSettings):
            needed["vllm"] = None
    return [*needed]
