"""A Ray cluster of this process alone: its processes listen on loopback, and ask everybody for a token of its own.

`ray.init(address="local")` listens on every address of the machine: it takes 127.0.0.1 for the machine's own address.
So the node is made here, by Ray's own class (private API, hence the pin). docs/security.md says what listens.
"""

import atexit
import contextlib
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from ray._private import utils, worker
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

LOOPBACK = "127.0.0.1"
REGISTRATION_S = 30.0
"""After it, Ray's own wait begins, with its own error."""


def start(
    *, num_cpus: int, object_store_memory: int, metrics: bool, meanwhile: Callable[[], None] = lambda: None
) -> Node:
    """Start a cluster and join it; `ray.shutdown`, or the end of this process, ends it and removes its files.

    Its processes inherit this one's environment. `object_store_memory` is in bytes. `metrics` says whether Ray's agent
    is wanted, which passes on the metrics of Ray Serve; it listens on ports of its own, and brings Ray's job agent
    along. `meanwhile` is called once, while the processes start.
    """
    folder = tempfile.mkdtemp(prefix="ray-")  # short, as the paths of sockets are
    atexit.register(end, folder)
    use_new_token(folder)
    params = RayParams(
        node_ip_address=LOOPBACK,
        num_cpus=num_cpus,
        object_store_memory=object_store_memory,
        temp_dir=os.path.join(folder, "ray"),  # Ray opens it to all users; the folder around it is this user's alone
        include_dashboard=False,
        dashboard_agent_listen_port=0,  # any free one: the default is one for all clusters of a machine
        min_worker_port=0,
        max_worker_port=0,
        no_monitor=True,  # it would only log what it would scale
        include_log_monitor=False,
    )
    with ThreadPoolExecutor(1) as thread:  # of the two the node is this thread's: Linux ends it with what started it
        other = thread.submit(meanwhile)
        with contextlib.nullcontext() if metrics else _agent_without_servers():
            node = _NodeWithoutDashboard(params, head=True, shutdown_at_exit=False, spawn_reaper=True)
        worker._global_node = node  # by its address Ray knows that 127.0.0.1 is meant
        other.result()
    ray.init(address=node.gcs_address, logging_level=logging.WARNING, log_to_driver=False)
    worker._global_node = node  # from here on ray.shutdown ends it, like one of ray.init's own
    return node


def end(folder: str) -> None:
    """End the cluster in this order: its processes would write into its folder again."""
    ray.shutdown(wait_for_processes=True)
    shutil.rmtree(folder, ignore_errors=True)


def folder() -> str | None:
    """Where the files of the private cluster that this process has joined are; None in any other cluster."""
    node = worker._global_node
    return os.path.dirname(node.temp_dir) if isinstance(node, _NodeWithoutDashboard) else None


def use_new_token(folder: str) -> None:
    """Have the clusters that this process starts, and joins, ask for a new random token, in a file of mode 0600.

    Whatever the user exported is for another cluster.
    """
    path = os.path.join(folder, "token")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))
    os.environ.pop("RAY_AUTH_TOKEN", None)
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": path}
    Config.initialize("")  # both are remembered from when Ray was imported
    AuthenticationTokenLoader.instance().reset_cache()


class _NodeWithoutDashboard(Node):  # type: ignore[misc]
    def start_api_server(self, **_: Any) -> None:
        """Nothing here asks it, and it takes seconds to start."""

    def start_ray_processes(self) -> None:
        """Start the raylet and wait until it has registered: Ray itself would look once a second."""
        super().start_ray_processes()
        end = time.monotonic() + REGISTRATION_S
        while not self.get_gcs_client().get_all_node_info() and time.monotonic() < end:
            time.sleep(0.02)


@contextlib.contextmanager
def _agent_without_servers() -> Iterator[None]:
    """Have Ray start its agent as it does where ray[default] is not installed: no job agent, no HTTP."""
    found = utils.get_dashboard_dependency_error
    utils.get_dashboard_dependency_error = lambda: ImportError("not wanted")
    try:
        yield
    finally:
        utils.get_dashboard_dependency_error = found
