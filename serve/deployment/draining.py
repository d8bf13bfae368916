"""Serve on the connected cluster, at the end of `presafe serve`: drained, then shut down in order."""

import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.serve.context import _get_global_client

from presafe import private_cluster
from serve.deployment.launch import withdraw
from serve.deployment.stopping import LOOK_S, ClusterWatch, limit_exit

ANSWER_S = 30.0
"""How long an actor of Serve may take to answer: busy cores are no dead ones."""
SHUTDOWN_S = 6.0
"""How long replicas may take to write what they have left, once no request runs."""
PROXIES = "SERVE_PROXY_ACTOR"


def controller_pid() -> int:
    """The process of Serve's controller."""
    pid: int = ray.get(_controller().get_pid.remote(), timeout=ANSWER_S)
    return pid


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


def shut_down(watch: ClusterWatch, *, alone: bool) -> None:
    """End Serve in order, so that replicas write what they have left, and then the private cluster.

    On a cluster that was joined, what other applications need stays: Serve ends where it is `alone` this endpoint's.
    """
    folder = private_cluster.folder()
    watch.stop()
    if folder is None:
        withdraw(alone=alone)
        return
    ray.get(_controller().graceful_shutdown.remote(wait=False), timeout=ANSWER_S)
    end = time.monotonic() + SHUTDOWN_S
    while watch.lost() is None and time.monotonic() < end:  # the controller ends itself as the last one
        time.sleep(LOOK_S)
    timer = limit_exit(0, folder)
    ray.shutdown(wait_for_processes=True)
    timer.cancel()


def _controller() -> Any:
    return _get_global_client()._controller
