"""What `presafe serve` stands on: watched while it serves, drained and shut down at its end."""

import re
import threading
import time
from collections.abc import Callable
from typing import Any

import ray
from ray import serve
from ray._private import worker
from ray._private.ray_logging import stdout_deduplicator
from ray.exceptions import GetTimeoutError, RayError
from ray.serve.context import _get_global_client

from presafe import private_cluster
from serve.processes import is_running
from serve.stopping import end, limit_exit

LOOK_S = 0.2
"""How often the state of the cluster and the operator's log are looked at."""
ANSWER_S = 30.0
"""How long an actor of Serve may take to answer: busy cores are no dead ones."""
SHUTDOWN_S = 6.0
"""How long replicas may take to write what they have left, once no request runs."""
PROXIES = "SERVE_PROXY_ACTOR"
TOLD_HERE = (
    "PYTHON worker processes have been started",  # more than cores: intended
    "Raylet is terminated",
    "ServeController.* failed",
)
"""What Ray would print of a cluster's end, in many lines."""


class ClusterWatch(threading.Thread):
    """Ends this process with a sentence and code 1 where one ends that its private cluster stands on.

    A thread of its own, since a call to a cluster that is gone may never come back. Replicas and proxies are Serve's to
    restart, and a cluster that was joined is its operator's.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        """`tell` is told of the loss."""
        super().__init__(daemon=True)
        stdout_deduplicator.skip_re = re.compile("|".join(TOLD_HERE))
        self._tell, self._over = tell, threading.Event()
        self._node, self._folder = worker._global_node, private_cluster.folder()
        self._controller_pid: int | None = None

    def watch_controller(self) -> None:
        """Serve has started: its controller belongs to it."""
        self._controller_pid = ray.get(_controller().get_pid.remote(), timeout=ANSWER_S)

    def run(self) -> None:
        while self._folder is not None and not self._over.wait(LOOK_S):
            if lost := self._lost():
                self._tell(f"presafe: the private cluster lost its {lost}; the endpoint has ended")
                end(1, self._folder)

    def stop(self) -> None:
        """What ends from now on is meant to."""
        self._over.set()
        self.join()

    def shut_down(self) -> None:
        """End Serve in order, so that replicas write what they have left, and then the private cluster."""
        if self._folder is None:
            serve.shutdown()
            return
        self.stop()
        ray.get(_controller().graceful_shutdown.remote(wait=False), timeout=ANSWER_S)
        end = time.monotonic() + SHUTDOWN_S
        while self._lost() is None and time.monotonic() < end:  # the controller ends itself as the last one
            time.sleep(LOOK_S)
        timer = limit_exit(0, self._folder)
        ray.shutdown(wait_for_processes=True)
        timer.cancel()

    def _lost(self) -> str | None:
        for kind, process in self._node.dead_processes():
            return f"{kind} (exit code {process.poll()})"
        if self._controller_pid is not None and not is_running(self._controller_pid):
            return "Serve controller"
        return None


def _controller() -> Any:
    return _get_global_client()._controller


def drain(seconds: float, meanwhile: Callable[[], None]) -> bool:
    """Have all proxies refuse new requests, and wait until none is running. False where some still are at the end."""
    end = time.monotonic() + seconds
    while not _drained():
        if time.monotonic() >= end:
            return False
        meanwhile()
        time.sleep(LOOK_S)
    return True


def _drained() -> bool:
    """Tell every proxy, also one that has just been restarted; whether all of them have nothing left to do."""
    names = [actor for actor in ray.util.list_named_actors(all_namespaces=True) if actor["name"].startswith(PROXIES)]
    try:
        proxies = [ray.get_actor(**name) for name in names]
        ray.get([proxy.update_draining.remote(True) for proxy in proxies], timeout=ANSWER_S)
        return all(ray.get([proxy.is_drained.remote() for proxy in proxies], timeout=ANSWER_S))
    except (RayError, GetTimeoutError, ValueError):  # one is gone, or restarts: it is asked again
        return False
