"""SIGKILL of a training worker: the run ends by itself and loses nothing."""

import json
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
from safetensors.numpy import load_file

from presafe.align import run_align
from run_directory import config, finish_earlier_stages, save_model


def train(root: Path, during=None) -> list[dict]:
    """Run stage `align` in `root`; `during`, if given, runs beside it. Returns the metrics of all steps."""
    root.mkdir()
    save_model(root)
    settings = config(root)
    finish_earlier_stages(settings)
    beside = threading.Thread(target=during, args=(root,)) if during else None
    if beside:
        beside.start()
    run_align(settings)
    if beside:
        beside.join()
    rows = [json.loads(line) for line in (root / "run/align/metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def kill_a_worker(root: Path) -> None:
    """SIGKILL one training worker once a checkpoint is committed and further steps are done."""
    metrics, progress = root / "run/align/metrics.jsonl", root / "run/align/progress.json"
    while not metrics.exists() or json.loads(progress.read_text())["step"] <= 10:
        time.sleep(0.005)
    workers = [p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in " ".join(p.cmdline()[:1])]
    assert len(workers) == 2
    assert json.loads(progress.read_text())["step"] < 40, "the run was over before the kill"
    workers[1].send_signal(signal.SIGKILL)
    killed.append(workers[1].pid)


killed: list[int] = []


@pytest.mark.usefixtures("local_ray")
def test_a_run_whose_worker_is_killed_ends_with_the_same_losses_and_weights(tmp_path):
    undisturbed = train(tmp_path / "undisturbed")
    disturbed = train(tmp_path / "disturbed", during=kill_a_worker)
    assert len(killed) == 1
    assert not psutil.pid_exists(killed[0])
    assert len(undisturbed) == 40
    assert disturbed == undisturbed, "the same losses, gradient norms and learning rates, bit by bit"
    for name in ("adapter/adapter_model.safetensors", "safety_head.safetensors"):
        expected, found = (load_file(tmp_path / run / "run/model" / name) for run in ("undisturbed", "disturbed"))
        assert expected.keys() == found.keys()
        assert all((expected[key] == found[key]).all() for key in expected)
