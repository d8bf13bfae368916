"""The demo of `make gpu PART=run` in tiny shapes on a CPU: slow, since the endpoint starts twice."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu_run import TOLERANCE
from presafe.config import STAGES

ROOT = Path(__file__).parents[2]


def test_the_demo_runs_and_its_endpoint_tells_the_models_own_probabilities(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "run", "--dry-run", "--results", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=False)
    result = json.loads((tmp_path / "gpu_run.json").read_text())
    assert {task["task"]: task["state"] for task in result["tasks"]} == {
        "stages": "done",
        "endpoint, gate off": "done",
        "endpoint, gate on": "done",
    }
    assert done.returncode == 0
    found = {metric["metric"]: metric["value"] for metric in result["metrics"]}
    assert found.keys() >= {f"run_{stage}_seconds" for stage in STAGES}
    assert "run_attack_success_rate_plain_aligned_cot_on" in found
    for gate in ("off", "on"):
        assert found[f"run_served_probability_apart_gate_{gate}"] <= TOLERANCE
