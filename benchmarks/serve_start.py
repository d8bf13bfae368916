"""`python -m benchmarks.serve_start MODEL`: `presafe serve` from its command to its first answer, in parts.

Seconds until each process of the endpoint is there, and the CPU seconds that each had used by the first answer: the
latter also mean something on a busy machine.
"""

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil

from benchmarks.ratio import PAIRS, Metric, save

COMMAND = [sys.executable, "-c", "from presafe.cli import main; main()", "serve"]
PROCESSES = {
    "raylet": "raylet/raylet",
    "controller": "ray::ServeController",
    "proxy": "ray::ProxyActor",
    "replica": "ray::ServeReplica",
}
LOOK_S = 0.05
BODY = {"model": "presafe", "messages": [{"role": "user", "content": "How do magnets work?"}], "max_tokens": 16}

Parts = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    model = parser.parse_args().model
    starts = [start(model) for _ in range(PAIRS + 1)][1:]  # the first one fills the disk's cache
    save("serve_start", [_metric(part, [parts[part] for parts in starts]) for part in starts[0]])


def start(model: str) -> Parts:
    """Seconds from the command until each part is reached, and CPU seconds of each process by then."""
    parts: Parts = {}
    with _serving(model) as (process, url, began):
        while "first_answer_s" not in parts:
            assert process.poll() is None, "it ended by itself"
            for name, found in _processes(process.pid).items():
                if name not in ("others", "driver"):
                    parts.setdefault(f"{name}_process_s", time.monotonic() - began) if found else None
            if "replica_process_s" in parts and _answers(url):
                parts["first_answer_s"] = time.monotonic() - began
            time.sleep(LOOK_S)
        for name, found in _processes(process.pid).items():
            parts[f"{name}_cpu_s"] = sum(_cpu_seconds(one) for one in found)
    parts["all_cpu_s"] = sum(value for name, value in parts.items() if name.endswith("_cpu_s"))
    return parts


@contextmanager
def _serving(model: str) -> Iterator[tuple["subprocess.Popen[bytes]", str, float]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([*COMMAND, model, f"port={port}"], stdout=subprocess.DEVNULL)
    try:
        yield process, f"http://127.0.0.1:{port}", time.monotonic()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _processes(driver: int) -> dict[str, list[psutil.Process]]:
    found: dict[str, list[psutil.Process]] = {"driver": [psutil.Process(driver)], **{name: [] for name in PROCESSES}}
    found["others"] = []
    for process in psutil.Process(driver).children(recursive=True):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:  # it is gone
            continue
        named = [name for name, text in PROCESSES.items() if text in title]
        found[named[0] if named else "others"].append(process)
    return found


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:  # it is gone
        return 0.0
    return float(times.user + times.system)


def _answers(url: str) -> bool:
    try:
        return httpx.post(f"{url}/v1/chat/completions", json=BODY, timeout=120).status_code == 200
    except httpx.TransportError:
        return False


def _metric(name: str, values: list[float]) -> Metric:
    target = "< 15 on two quiet cores" if name == "first_answer_s" else "-"
    return Metric(name, statistics.median(values), min(values), max(values), "s", target, "none")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
