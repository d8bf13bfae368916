"""A Ray Train group: what its ranks ask for, and how they find each other."""

import os
import uuid
from dataclasses import dataclass
from typing import Any

import ray
from ray.train import ScalingConfig
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group, _TorchBackend

from presafe import private_cluster
from presafe.cluster.options import bundle, label_selector
from presafe.config import Group, Workers

DEFAULT_TIMEOUT_S = 1800
RESIZE_INTERVAL_S = 60.0
"""How often an elastic group looks for nodes that came: a larger group starts from the last checkpoint."""


def scaling(workers: Workers | Group) -> ScalingConfig:
    """The size of a group of `workers`."""
    return ScalingConfig(
        elastic_resize_monitor_interval_s=RESIZE_INTERVAL_S,
        num_workers=workers.num_workers,
        use_gpu=workers.num_gpus > 0,
        resources_per_worker=bundle(workers),
        label_selector=label_selector(workers) or None,
    )


def torch_config(timeout_s: int = DEFAULT_TIMEOUT_S) -> TorchConfig:
    """How ranks find each other on the connected cluster: over the network, or through a file in a private one.

    A collective operation may take `timeout_s` seconds.
    """
    folder = private_cluster.folder()
    return TorchConfig(timeout_s=timeout_s) if folder is None else _FileConfig(timeout_s=timeout_s, folder=folder)


@dataclass
class _FileConfig(TorchConfig):  # type: ignore[misc]
    """Of one machine. PyTorch's own store would listen on all its addresses, and ask nobody who they are."""

    folder: str = ""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _FileBackend


class _FileBackend(_TorchBackend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: _FileConfig) -> None:
        """Join the workers in a process group that has a file of its own: a group that starts again needs a new one."""
        gpus = worker_group.get_resources_per_worker().get("GPU", 0)
        file = f"{backend_config.folder}/rendezvous-{uuid.uuid4().hex}"
        worker_group.execute(_set_environment)
        ray.get(
            [
                worker_group.execute_single_async(
                    rank,
                    _setup_torch_process_group,
                    backend="nccl" if gpus > 0 else "gloo",
                    world_rank=rank,
                    world_size=len(worker_group),
                    init_method=f"file://{file}",
                    timeout_s=backend_config.timeout_s,
                )
                for rank in range(len(worker_group))
            ]
        )


def _set_environment() -> None:
    _set_torch_distributed_env_vars()
    os.environ |= {"MASTER_ADDR": private_cluster.LOOPBACK, "MASTER_PORT": "0"}  # DeepSpeed asks MPI without them
