"""`presafe serve` as a process of its own, with a temporary folder of its own, and all that it started."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

START_S, STOP_S = 600.0, 60.0
COMMAND = [sys.executable, "-c", "from presafe.cli import main; main()", "serve"]


@dataclass(frozen=True)
class ServeProcess:
    """A process that serves, or did. What it says is in the file `output`; `started` is what it had started."""

    process: "subprocess.Popen[bytes]"
    url: str
    folder: Path
    temporary: str
    started: list[psutil.Process]

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    @property
    def log(self) -> str:
        """The operator's log."""
        return next((self.folder / "state").glob("presafe/serve-*.log")).read_text()

    def look(self) -> None:
        """Note what it has started by now."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        self.started.extend(process for process in found if process not in self.started)

    def has(self, title: str) -> bool:
        """Whether it has started, by now, a process whose command line has this text."""
        self.look()
        return any(title in _title(process) for process in self.started)

    def find(self, title: str) -> psutil.Process:
        """The one process that it started whose command line has this text."""
        (found,) = (process for process in self.started if title in _title(process))
        return found

    def wait_until(self, reached: Callable[[], Any], timeout_s: float = START_S) -> None:
        """Until it is so; fails where the process ends before."""
        end = time.monotonic() + timeout_s
        while not reached():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < end, self.output
            time.sleep(0.05)

    def ended(self) -> int:
        """Its exit code."""
        return self.process.wait(STOP_S)

    def left(self) -> list[str]:
        """Processes and temporary files that outlived it; to be called after its end.

        Ray's agents end by themselves, a moment after their raylet.
        """
        _, alive = psutil.wait_procs(self.started, timeout=STOP_S)
        return [_title(process) for process in alive] + os.listdir(self.temporary)


@contextmanager
def serving(folder: Path, model: str, *settings: str) -> Iterator[ServeProcess]:
    """Started and ready; killed at the end where it still runs."""
    with starting(folder, model, *settings) as served:
        served.wait_until(lambda: _is_ready(served.url))
        served.look()
        yield served


@contextmanager
def starting(folder: Path, model: str, *settings: str) -> Iterator[ServeProcess]:
    """Started, and nothing more; killed at the end where it still runs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    temporary = tempfile.mkdtemp(prefix="serve-")  # below `folder` it would be too long for the names of Ray's sockets
    environment = {
        **os.environ,
        "TMPDIR": temporary,
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "torch"),  # torch's own, which it keeps from run to run
        "XDG_STATE_HOME": str(folder / "state"),
    }
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [*COMMAND, model, f"port={port}", *settings], stdout=output, stderr=subprocess.STDOUT, env=environment
        )
    served = ServeProcess(process, f"http://127.0.0.1:{port}", folder, temporary, [])
    try:
        yield served
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_S)
        shutil.rmtree(temporary)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it is gone
        return ""
