"""Inspect, unchanged and by its command line, against `presafe serve`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clients.endpoint import ROOT, Endpoint, user

pytest.importorskip("inspect_ai", reason="Inspect is not installed: make test-clients")

TASK = "tests/clients/tasks/tiny_inspect.py"  # from the root of the repository


def test_a_task_is_asked_and_scored(endpoint: Endpoint, tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("inspect"), "eval", TASK, "--model", "openai-api/presafe/presafe"]
    command += ["--model-base-url", f"{endpoint.url}/v1", "--temperature", "0", "--max-tokens", "200"]
    command += ["--log-dir", tmp_path, "--log-format", "json", "--display", "none"]
    environment = {**os.environ, "PRESAFE_API_KEY": "none"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    (log,) = tmp_path.glob("*.json")
    told = json.loads(log.read_text(encoding="utf-8"))
    assert told["status"] == "success"
    for sample in told["samples"]:
        reply = endpoint.client().chat.completions.create(
            model="presafe", messages=user(sample["input"]), temperature=0, max_tokens=200
        )
        assert sample["output"]["completion"] == reply.choices[0].message.content
    (score,) = told["results"]["scores"]
    assert score["metrics"]["accuracy"]["value"] == 0.5
