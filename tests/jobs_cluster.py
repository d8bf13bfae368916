"""Ray nodes of this machine with a dashboard and a token, and a working directory from which jobs are submitted.

Each node is a `ray start` of its own, with a working directory, a temporary folder and an object store of its own.
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from scripted_process import free_port

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"
WAIT_S = 300.0
STORE = 10**8
"""Bytes of the object store of a node."""


def until(reached: Callable[[], bool], seconds: float = WAIT_S) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


@dataclass
class JobsCluster:
    """A head without CPUs and the nodes that joined it."""

    folder: Path
    environment: dict[str, str]
    cpus: int
    port: int = field(default_factory=free_port)
    dashboard: int = field(default_factory=free_port)
    nodes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    """By the ids that Ray knows them by."""
    head: "subprocess.Popen[bytes] | None" = None
    _started: int = 0

    def start_head(self, cpus: int = 0) -> None:
        """Start the head and its dashboard; the driver of a pipeline runs there, without CPUs."""
        options = [f"--port={self.port}", f"--dashboard-port={self.dashboard}", f"--dashboard-host={HOST}"]
        options += [f"--num-cpus={cpus}"]
        self.head = self._start("--head", *options)
        log = self.folder / f"n{self._started}.log"
        until(lambda: "runtime started" in log.read_text() or self.head.poll() is not None)
        assert self.head.poll() is None, self.log()

    def replace_head(self) -> None:
        """Kill the head, and all nodes with it, and start another one at the same address."""
        self.end()
        self.nodes.clear()
        self.start_head()

    def add_node(self) -> None:
        """Start a node; it has joined once something runs on it."""
        identity = secrets.token_hex(28)
        given = {"RAY_OVERRIDE_NODE_ID_FOR_TESTING": identity}
        self.nodes[identity] = self._start(f"--address={HOST}:{self.port}", f"--num-cpus={self.cpus}", **given)

    def _start(self, *options: str, **given: str) -> "subprocess.Popen[bytes]":
        self._started += 1
        own = self.folder / f"n{self._started}"
        own.mkdir()
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *options]
        command += [f"--node-ip-address={HOST}", f"--object-store-memory={STORE}"]
        command += ["--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0"]
        command += [f"--temp-dir={own}"]  # in one for all, two that start at once would take the same socket
        environment = os.environ | self.environment | given | {"TMPDIR": str(own)}
        with open(self.folder / f"n{self._started}.log", "wb") as log:
            return subprocess.Popen(command, cwd=own, env=environment, stdout=log, stderr=log)

    def log(self) -> str:
        return "".join(file.read_text() for file in sorted(self.folder.glob("n*.log")))

    def nodes_with(self, what: str) -> list[str]:
        """Nodes that have a process in whose command line, or title, is `what`."""
        return [node for node, started in self.nodes.items() if any(what in line for line in _command_lines(started))]

    def kill(self, node: str) -> None:
        """SIGKILL to everything on the node at once."""
        _kill(self.nodes.pop(node))

    def give_notice(self, node: str, seconds: int) -> None:
        """What a cloud tells a spot node so many seconds before it takes it away."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", f"--address={HOST}:{self.port}"]
        command += [f"--node-id={node}", "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot"]
        command += [f"--deadline-remaining-seconds={seconds}"]
        subprocess.run(command, env=os.environ | self.environment, check=True)

    def end(self) -> None:
        for node in [*self.nodes.values(), self.head]:
            if node is not None:
                _kill(node)


def _processes(node: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    if not psutil.pid_exists(node.pid):
        return []
    start = psutil.Process(node.pid)
    return [start, *start.children(recursive=True)]


def _command_lines(node: "subprocess.Popen[bytes]") -> list[str]:
    lines = []
    for process in _processes(node):
        try:
            lines.append(" ".join(process.cmdline()))
        except psutil.NoSuchProcess:
            continue
    return lines


def _kill(node: "subprocess.Popen[bytes]") -> None:
    for process in _processes(node):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    node.wait()


@contextmanager
def jobs_cluster(cpus: int, **environment: str) -> Iterator[JobsCluster]:
    """A cluster without a node yet; each gets `cpus` and `environment`."""
    folder = Path(tempfile.mkdtemp(prefix="r-"))  # a short path, as those of sockets are
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    every = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    cluster = JobsCluster(folder, every | environment, cpus)
    try:
        yield cluster
    finally:
        cluster.end()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Command:
    """`presafe`, given in a process of its own; what it says is in a file."""

    process: "subprocess.Popen[bytes]"
    output: Path

    @property
    def printed(self) -> str:
        return self.output.read_text()

    def until(self, reached: Callable[[], bool], seconds: float = WAIT_S) -> None:
        """Fails where it ends before."""
        until(lambda: reached() or self.process.poll() is not None, seconds)
        assert reached(), self.printed

    def said(self, text: str) -> None:
        self.until(lambda: text in self.printed)

    def end(self, seconds: float = WAIT_S) -> tuple[int, str]:
        """Exit code, and what was printed."""
        code = self.process.wait(seconds)
        return code, self.printed


@dataclass(frozen=True)
class Submitter:
    """A working directory with the code, and commands given in it to a cluster."""

    folder: Path
    environment: Mapping[str, str]
    outputs: Path

    def start(self, *arguments: str, **environment: str) -> Command:
        output = self.outputs / f"{len(list(self.outputs.iterdir()))}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "presafe", *arguments],
                cwd=self.folder,
                env={**os.environ, **self.environment, **environment},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return Command(process, output)

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        return self.start(*arguments, **environment).end()


def working_directory(folder: Path) -> Path:
    """`folder` with the code that jobs need."""
    folder.mkdir(exist_ok=True)
    for room in ("presafe", "jobs", "serve"):
        (folder / room).symlink_to(ROOT / room)
    shutil.copyfile(ROOT / ".rayignore", folder / ".rayignore")
    return folder


def submitter(cluster: JobsCluster, folder: Path, outputs: Path) -> Submitter:
    """In a working directory that is there."""
    address = {"RAY_API_SERVER_ADDRESS": f"http://{HOST}:{cluster.dashboard}"}
    return Submitter(folder, cluster.environment | address, outputs)
