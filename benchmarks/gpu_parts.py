"""Runs what `make gpu` measures: processes with a time limit, whose figures are in the result file as they come."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

import psutil

from benchmarks.ratio import Metric, write_result

MARK = "figure "
"""What a line of output that is a figure begins with."""
LEFT_OUT = "left out: "
"""What the line begins with that says why a task cannot run here, and the exit code behind it."""
LEFT_OUT_CODE = 3
State = Literal["waits", "runs", "done", "failed", "cut", "left out"]
READ_S = 5.0
"""How long what a task has printed is waited for: a process that it left behind may hold its output open."""
ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
"""Of every process: lines when they are written, and nothing of the hub."""


@dataclass(frozen=True)
class Task:
    """A process that prints figures; `seconds` is its limit."""

    name: str
    command: Sequence[str]
    seconds: float


@dataclass
class Outcome:
    """How a task ended, or how far it is."""

    task: str
    state: State = "waits"
    seconds: float = 0.0
    note: str = ""


@dataclass
class Record:
    """What a part has shown so far, kept in FOLDER/gpu_NAME.json."""

    name: str
    folder: Path
    machine: str
    outcomes: list[Outcome]
    metrics: list[Metric] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self) -> None:
        with self.lock:
            tasks = [asdict(outcome) for outcome in self.outcomes]
            write_result(self.folder, f"gpu_{self.name}", self.machine, self.metrics, tasks=tasks)


def figure(
    metric: str, value: float, unit: str, *, spread: Sequence[float] = (), target: str = "-", peer: str = "none"
) -> None:
    """Print a figure as `run_part` reads it; `spread` are the values that it is the middle of."""
    low, high = (min(spread), max(spread)) if spread else (value, value)
    told = Metric(metric, value, low, high, unit, target, peer)
    print(MARK + json.dumps(asdict(told), allow_nan=False), flush=True)


def leave_out(reason: str) -> NoReturn:
    """End this process as a task that cannot run here."""
    print(LEFT_OUT + reason, flush=True)
    raise SystemExit(LEFT_OUT_CODE)


def run_part(name: str, tasks: Sequence[Task], seconds: float, folder: Path, machine: str) -> bool:
    """Run the tasks one after the other, together at most `seconds`; whether all of them came to their end.

    One that fails, or reaches its limit and is killed with all that it started, does not keep the next one from
    starting.
    """
    record = Record(name, folder, machine, [Outcome(task.name) for task in tasks])
    record.keep()
    end = time.monotonic() + seconds
    for task, outcome in zip(tasks, record.outcomes, strict=True):
        _run(task, min(task.seconds, end - time.monotonic()), outcome, record)
        record.keep()
        print(f"{name}: {task.name} {outcome.state} after {outcome.seconds:.0f} s {outcome.note}".rstrip(), flush=True)
    return all(outcome.state in ("done", "left out") for outcome in record.outcomes)


def _run(task: Task, limit: float, outcome: Outcome, record: Record) -> None:
    if limit <= 0:
        outcome.state, outcome.note = "cut", "no time was left"
        return
    outcome.state, begin = "runs", time.monotonic()
    record.keep()
    process = subprocess.Popen(
        task.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env={**os.environ, **ENVIRONMENT}
    )
    reader = threading.Thread(target=_read, args=(process.stdout, outcome, record), daemon=True)
    reader.start()
    try:
        code = process.wait(limit)
        reader.join(READ_S)
        ends: dict[int, State] = {0: "done", LEFT_OUT_CODE: "left out"}
        outcome.state = ends.get(code, "failed")
        outcome.note = outcome.note or (f"exit code {code}" if code else "")
    except subprocess.TimeoutExpired:
        outcome.state, outcome.note = "cut", f"its limit is {limit:.0f} s"
    finally:  # also where this process is told to end
        _end(process)
        outcome.seconds = round(time.monotonic() - begin, 1)
        if outcome.state == "runs":
            outcome.state, outcome.note = "cut", "the whole was ended"
            record.keep()
    reader.join(READ_S)


def _read(lines: Any, outcome: Outcome, record: Record) -> None:
    """Keep the figures among the lines, and show the others."""
    for line in lines:
        if line.startswith(MARK):
            metric = Metric(**json.loads(line.removeprefix(MARK)))
            record.metrics.append(metric)
            record.keep()
            shown = f"{metric.metric:44} {metric.value:12.4g} {metric.unit:10} [{metric.low:.4g}, {metric.high:.4g}]"
            print(f"{shown} target {metric.target}", flush=True)
        elif line.startswith(LEFT_OUT):
            outcome.note = line.removeprefix(LEFT_OUT).strip()
        else:
            sys.stdout.write(line)


def _end(process: "subprocess.Popen[str]") -> None:
    """Kill what still runs of a task: Ray's processes have sessions of their own."""
    if process.poll() is None:
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for one in tree:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                continue
        process.wait()
