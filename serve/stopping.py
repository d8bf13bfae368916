"""How the process of `presafe serve` ends: on signals, and without a process or a folder left behind."""

import atexit
import os
import shutil
import signal
import sys
import threading
from types import FrameType

from ray._private import worker

from presafe import private_cluster
from serve.processes import kill_descendants

EXIT_S = 8.0
"""How long Ray may take to end its own processes, and this one to exit."""


class Signals:
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


def give_up(exit_code: int) -> None:
    """End at once what is left of the private cluster; where there is something, this process ends here as well.

    Ray's own way to end would wait for processes that are gone, and a Python that ends without it crashes.
    """
    folder = private_cluster.folder()
    if folder is None:
        return
    Signals.ignore()
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
