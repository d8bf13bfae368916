"""Figures of a GPU's machine are kept as they come, whatever becomes of the task that found them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from benchmarks.gpu import tasks
from benchmarks.gpu_parts import Task, run_part
from benchmarks.ratio import commit

ROOT = Path(__file__).parents[2]
FIGURE = "from benchmarks.gpu_parts import figure, leave_out; import os, subprocess, sys, time; "
TELLS_AND_HANGS = FIGURE + "figure('pid', os.getpid(), 's', spread=[1, 9]); time.sleep(600)"
HANGS_WITH_A_CHILD = FIGURE + (
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True); "
    "figure('child', child.pid, 's'); time.sleep(600)"
)


def python(name: str, code: str, seconds: float = 60) -> Task:
    return Task(name, [sys.executable, "-c", code], seconds)


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "gpu_part.json").read_text())


def values(folder: Path) -> dict[str, float]:
    return {metric["metric"]: metric["value"] for metric in result(folder)["metrics"]}


def has_ended(process: float) -> bool:
    """Also where nobody has asked yet how."""
    try:
        return psutil.Process(int(process)).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_task_that_fails_or_hangs_does_not_keep_the_next_from_its_figures(tmp_path):
    parts = [
        python("fails", FIGURE + "figure('first', 1, 's'); sys.exit(7)"),
        python("hangs", HANGS_WITH_A_CHILD, seconds=6),
        python("cannot", FIGURE + "leave_out('no room')"),
        python("ends", FIGURE + "print('some words'); figure('last', 2, 's', target='<= 3', peer='another')"),
    ]
    assert not run_part("part", parts, 60, tmp_path, "a machine")
    assert values(tmp_path).keys() == {"first", "child", "last"}
    states = {task["task"]: (task["state"], task["note"]) for task in result(tmp_path)["tasks"]}
    assert states == {
        "fails": ("failed", "exit code 7"),
        "hangs": ("cut", "its limit is 6 s"),
        "cannot": ("left out", "no room"),
        "ends": ("done", ""),
    }
    assert has_ended(values(tmp_path)["child"])
    last = result(tmp_path)["metrics"][-1]
    assert (last["low"], last["high"], last["unit"], last["target"], last["peer"]) == (2, 2, "s", "<= 3", "another")
    assert result(tmp_path).keys() == {"name", "commit", "machine", "date", "metrics", "tasks"}


def test_all_of_a_part_that_ends_is_done_and_its_own_limit_cuts_it(tmp_path):
    quick = python("quick", FIGURE + "figure('one', 1, 's')")
    assert run_part("part", [quick, python("cannot", FIGURE + "leave_out('why')")], 60, tmp_path, "m")
    assert not run_part("part", [quick], 0, tmp_path, "m")
    assert result(tmp_path)["tasks"] == [{"task": "quick", "state": "cut", "seconds": 0, "note": "no time was left"}]


@pytest.mark.parametrize(("sent", "state"), [(signal.SIGKILL, "runs"), (signal.SIGTERM, "cut")])
def test_what_was_found_is_there_when_all_of_it_is_killed(tmp_path, sent, state):
    code = (
        "import signal, sys; from pathlib import Path; from benchmarks.gpu_parts import Task, run_part; "
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(1)); "
        f"task = Task('a', [sys.executable, '-c', {TELLS_AND_HANGS!r}], 600); "
        f"run_part('part', [task], 600, Path({str(tmp_path)!r}), 'm')"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as process:
        wait_until(lambda: (tmp_path / "gpu_part.json").exists() and bool(values(tmp_path)))
        process.send_signal(sent)
    found = values(tmp_path)["pid"]
    if sent == signal.SIGKILL:
        os.kill(int(found), signal.SIGKILL)
    wait_until(lambda: has_ended(found))
    assert [task["state"] for task in result(tmp_path)["tasks"]] == [state]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without CUDA")
def test_without_cuda_one_sentence_says_so(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "serve", "--results", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("benchmarks.gpu: found no GPU")
    assert done.stderr.count("\n") == 1
    assert [*tmp_path.iterdir()] == []


def test_a_copy_without_history_says_that_its_commit_is_unknown(tmp_path):
    assert commit(tmp_path).startswith("unknown")
    assert not commit(ROOT).startswith("unknown")


def test_the_parts_take_six_and_six_minutes():
    from benchmarks.gpu import SECONDS

    assert SECONDS.keys() == tasks("runs", dry_run=False).keys()
    assert SECONDS["run"] <= 360 >= SECONDS["train"] + SECONDS["serve"]
