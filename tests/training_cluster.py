"""A cluster of several nodes on this machine, an alignment through the command line on it, and ways to harm both."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2
from safetensors.numpy import load_file

from presafe.private_cluster import use_new_token
from presafe.runtime import LOCAL_ENV
from run_directory import config, finish_earlier_stages, save_model

STEPS, EVERY = 160, 10
DRIVER = "import presafe.runtime as r; r.RESIZE_INTERVAL_S = 2.0; from presafe.cli import main; main()"


class Nodes:
    """A head without CPUs, where the driver's processes live, and nodes of one CPU: one training worker each."""

    def __init__(self) -> None:
        for name, value in LOCAL_ENV.items():
            os.environ.setdefault(name, value)
        self._folder = tempfile.TemporaryDirectory(prefix="token-")
        use_new_token(self._folder.name)
        health = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}
        head = {"num_cpus": 0, "object_store_memory": 10**8, "_system_config": health}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address = self._cluster.address

    def shutdown(self) -> None:
        self._cluster.shutdown()
        self._folder.cleanup()

    def provide(self, count: int) -> None:
        """Add nodes until there are `count`, or kill some."""
        while len(self._cluster.worker_nodes) < count:
            self._cluster.add_node(num_cpus=1, object_store_memory=10**8)
        while len(self._cluster.worker_nodes) > count:
            self.kill_node(next(iter(self._cluster.worker_nodes)))
        while sum(node["Alive"] for node in self._cluster.global_state.node_table()) != count + 1:
            time.sleep(0.1)

    def kill_node(self, node: object) -> None:
        """SIGKILL to everything on the node at once."""
        raylet = _raylet(node)
        for process in [raylet, *raylet.children(recursive=True)]:
            process.send_signal(signal.SIGKILL)
        self._cluster.remove_node(node, allow_graceful=False)

    def nodes_at_work(self) -> list[object]:
        return [node for node in self._cluster.worker_nodes if _training(node)]

    def workers(self) -> list[psutil.Process]:
        return [worker for node in self._cluster.worker_nodes for worker in _training(node)]

    def give_notice(self, node: object, deadline: float) -> None:
        """What a cloud tells a spot node before it takes it away at `deadline`, seconds since the epoch."""
        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        gcs = GcsClient(address=self.address)
        accepted, why = gcs.drain_node(node.node_id, reason, "spot", int(deadline * 1000))
        assert accepted, why


def _raylet(node: object) -> psutil.Process:
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def _training(node: object) -> list[psutil.Process]:
    return [p for p in _raylet(node).children() if "RayTrainWorker" in " ".join(p.cmdline()[:1])]


@dataclass
class Alignment:
    """A run directory with everything before stage `align`, and that stage as a process of its own."""

    root: Path
    address: str
    align: dict[str, object]

    def prepare(self) -> "Alignment":
        self.root.mkdir(exist_ok=True)
        save_model(self.root)
        settings = config(self.root, steps=STEPS, checkpoint_every=EVERY, probe_every=STEPS, **self.align)
        finish_earlier_stages(settings)
        content = settings.model_dump(mode="json", exclude_unset=True)
        content["cluster"] = {"address": self.address}
        (self.root / "config.yaml").write_text(yaml.safe_dump(content))
        return self

    def start(self, *overrides: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", DRIVER, "align", "--config", str(self.root / "config.yaml"), *overrides]
        log = open(self.root / "driver.log", "w", encoding="utf-8")  # noqa: SIM115
        return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=log, stderr=log, text=True)

    def end(self, driver: subprocess.Popen[str]) -> tuple[int, str]:
        """Exit code and what was printed, without the progress bar."""
        code = driver.wait(timeout=900)
        printed = (self.root / "driver.log").read_text()
        return code, "\n".join(line for line in re.split("[\r\n]", printed) if line.startswith("presafe: "))

    def run(self, *overrides: str) -> tuple[int, str]:
        return self.end(self.start(*overrides))

    @property
    def committed(self) -> list[int]:
        """Steps of the checkpoints that a resume would choose from."""
        register = self.root / "run/align/checkpoints/checkpoint_manager_snapshot.json"
        while register.exists():
            if (text := register.read_text()).endswith("}"):  # it is written in place
                return sorted({int(step) for step in re.findall(r"step-(\d+)", text)})
        return []

    @property
    def step(self) -> int:
        """The last step that was reported, 0 before the first."""
        file = self.root / "run/align/progress.json"
        return json.loads(file.read_text())["step"] if file.exists() else 0

    def wait(self, driver: subprocess.Popen[str], until: Callable[[], bool]) -> None:
        while not until():
            assert driver.poll() is None, f"the run was over before: {(self.root / 'driver.log').read_text()[-2000:]}"
            time.sleep(0.01)

    def redone(self, driver: subprocess.Popen[str], harm: Callable[[], object]) -> int:
        """Harm the run, and wait until it goes on: from the last checkpoint, this many steps back."""
        harm()
        before, begin = self.step, time.time()
        progress = self.root / "run/align/progress.json"
        self.wait(driver, lambda: progress.stat().st_mtime > begin + 0.5)  # until then it may be a last sign of life
        assert self.step - 1 == self.committed[-1]
        print(f"{harm.__name__}: step {before}, on from {self.step - 1} after {time.time() - begin:.0f} s")
        return before - (self.step - 1)

    def rows(self) -> list[dict[str, float]]:
        lines = (self.root / "run/align/metrics.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if not k.endswith("seconds")} for line in lines]

    def weights(self) -> dict[str, object]:
        files = ("adapter/adapter_model.safetensors", "safety_head.safetensors")
        return {f"{n} {k}": t for n in files for k, t in load_file(self.root / "run/model" / n).items()}


def assert_same(run: Alignment, reference: Alignment) -> None:
    """The same losses, gradient norms, learning rates and exported weights, bit by bit."""
    assert len(reference.rows()) == STEPS
    assert run.rows() == reference.rows()
    found, expected = run.weights(), reference.weights()
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in expected)


@contextmanager
def stopped(processes: list[psutil.Process]) -> Iterator[None]:
    """Hold processes while the body runs."""
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            if process.is_running():
                process.send_signal(signal.SIGCONT)
