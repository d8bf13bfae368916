"""How the process of `presafe serve` ends: on signals, and without a process or a folder left behind."""

import atexit
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from ray._private import worker
from ray._private.ray_logging import stdout_deduplicator

from presafe import private_cluster
from serve.deployment.processes import is_running, kill_descendants

LOOK_S = 0.2
"""How often the state of the cluster and the operator's log are looked at."""
EXIT_S = 8.0
"""How long Ray may take to end its own processes, and this one to exit."""
TOLD_HERE = (
    "PYTHON worker processes have been started",  # more than cores: intended
    "Raylet is terminated",
    "ServeController.* failed",
)
"""What Ray would print of a cluster's end, in many lines."""


class ExitSignals:
    """SIGTERM and Ctrl-C: while it serves, the first one sets `asked`; any other one raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.asked, self.serving = False, False

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on)

    @staticmethod
    def ignore() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    def _on(self, _: int, __: FrameType | None) -> None:
        if self.asked or not self.serving:
            raise KeyboardInterrupt
        self.asked = True


class ClusterWatch(threading.Thread):
    """Ends this process with a sentence and code 1 where one ends that its private cluster stands on.

    A thread of its own, since a call to a cluster that is gone may never come back: joining one that is about to be
    included. Replicas and proxies are Serve's to restart, and a cluster that was joined is its operator's.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        """`tell` is told of the loss."""
        super().__init__(daemon=True)
        stdout_deduplicator.skip_re = re.compile("|".join(TOLD_HERE))
        self.tell, self._over = tell, threading.Event()
        self._controller_pid: int | None = None

    def watch_controller(self, pid: int) -> None:
        """Serve has started: its controller belongs to it."""
        self._controller_pid = pid

    def run(self) -> None:
        while not self._over.wait(LOOK_S):
            if (folder := private_cluster.folder()) is not None and (lost := self.lost()):
                self.tell(f"presafe: the private cluster lost its {lost}; the endpoint has ended")
                end(1, folder)

    def stop(self) -> None:
        """What ends from now on is meant to."""
        self._over.set()
        self.join()

    def lost(self) -> str | None:
        """What has ended of the private cluster."""
        for kind, process in worker._global_node.dead_processes():
            return f"{kind} (exit code {process.poll()})"
        if self._controller_pid is not None and not is_running(self._controller_pid):
            return "Serve controller"
        return None


def give_up(exit_code: int) -> None:
    """End at once what is left of the private cluster; where there is something, this process ends here as well.

    Ray's own way to end would wait for processes that are gone, and a Python that ends without it crashes.
    """
    folder = private_cluster.folder()
    if folder is None:
        return
    ExitSignals.ignore()
    kill_descendants()
    limit_exit(exit_code, folder)
    for ordinary in (worker.shutdown, private_cluster.end):
        atexit.unregister(ordinary)
    atexit._run_exitfuncs()
    end(exit_code, folder)


def limit_exit(code: int, folder: str) -> threading.Timer:
    """End this process in EXIT_S seconds in any case, without a process or a temporary folder left behind."""
    timer = threading.Timer(EXIT_S, end, (code, folder))
    timer.daemon = True
    timer.start()
    return timer


def end(code: int, folder: str) -> None:
    """End this process here and now, without a process or the cluster's folder left behind."""
    kill_descendants()
    shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
