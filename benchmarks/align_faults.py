"""What a fault and a checkpoint cost the alignment, on a cluster of nodes on this machine, through the command line.

Ratios of wall time on one machine. The seconds behind them are printed and depend on it: on two free cores most of a
start, and so of a restart, are imports.
"""

import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks.ratio import Metric, save

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the fault tests' cluster and run directory serve here too

from training_cluster import EVERY, Alignment, Nodes

ROUNDS = 3
GROUP = {"workers": {"num_workers": 2}}


def main() -> None:
    nodes = Nodes()
    try:
        nodes.provide(2)
        with tempfile.TemporaryDirectory() as folder:
            save("align_faults", [*gaps(nodes, Path(folder)), *checkpoints(nodes, Path(folder))])
    finally:
        nodes.shutdown()


def gaps(nodes: Nodes, folder: Path) -> list[Metric]:
    """From the SIGKILL to the next finished step, over the time from the command to the first one."""
    worker, driver = [], []
    for k in range(ROUNDS):
        run = Alignment(folder / f"gaps{k}", nodes.address, GROUP).prepare()
        begin = time.monotonic()
        process = run.start()
        run.wait(process, lambda run=run: run.step > 0)
        start_up = time.monotonic() - begin
        run.wait(process, lambda run=run: run.step > EVERY)
        after_worker = until_next_step(run, process, lambda: nodes.workers()[1].send_signal(signal.SIGKILL))
        process.send_signal(signal.SIGKILL)
        process.wait()
        psutil.wait_procs(nodes.workers())
        begin = time.monotonic()
        process = run.start()
        after_driver = until_next_step(run, process, lambda: None)
        run.end(process)
        print(
            f"start-up {start_up:.1f} s, worker's gap {after_worker:.1f} s, driver's {after_driver:.1f} s", flush=True
        )
        worker.append(after_worker / start_up)
        driver.append(after_driver / start_up)
    return [
        metric("worker_gap_over_start_up", worker, "<= 1", "from the command to the first step"),
        metric("driver_gap_over_start_up", driver, "<= 1.1", "from the command to the first step"),
    ]


def until_next_step(run: Alignment, process: object, harm: Callable[[], object]) -> float:
    begin = time.monotonic()
    run.redone(process, harm)
    return time.monotonic() - begin


def checkpoints(nodes: Nodes, folder: Path) -> list[Metric]:
    """A checkpoint in steps of this tiny model: the run with one after every second step against the run with one."""
    costs = []
    for k in range(ROUNDS):
        often = training_seconds(nodes, folder / f"often{k}", "align.checkpoint_every=2")
        once = training_seconds(nodes, folder / f"once{k}", "align.checkpoint_every=1000")
        steps = 160
        one = (often - once) / (steps / 2 - 1)
        print(f"a checkpoint {one:.3f} s, a step {once / steps:.3f} s", flush=True)
        costs.append(one / (once / steps))
    return [metric("checkpoint_over_step", costs, "-", "a step of a model with 26k weights")]


def training_seconds(nodes: Nodes, folder: Path, override: str) -> float:
    run = Alignment(folder, nodes.address, GROUP).prepare()
    process = run.start(override)
    run.wait(process, lambda: run.step > 0)
    begin = time.monotonic()
    run.wait(process, lambda: run.committed[-1:] == [160])
    seconds = time.monotonic() - begin
    run.end(process)
    return seconds


def metric(name: str, ratios: list[float], target: str, peer: str) -> Metric:
    return Metric(name, statistics.median(ratios), min(ratios), max(ratios), "ratio", target, peer)


if __name__ == "__main__":
    main()
