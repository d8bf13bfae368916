"""lm-evaluation-harness, unchanged and by its command line, against `presafe serve`."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clients.endpoint import ROOT, Endpoint, user

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: make test-clients")

TASKS = Path(__file__).with_name("tasks")


def evaluated(endpoint: Endpoint, output: Path, *options: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The harness's metrics of the task, and its samples."""
    arguments = f"model=presafe,base_url={endpoint.chat_url},num_concurrent=2,max_retries=1"
    command = [sys.executable, "-m", "lm_eval", "--model", "local-chat-completions", "--model_args", arguments]
    command += ["--apply_chat_template", "--tasks", "tiny_arithmetic", "--include_path", str(TASKS)]
    command += ["--output_path", str(output), "--log_samples", *options]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(output / "home")}
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **offline}, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = output.rglob("results_*.json")
    (samples,) = output.rglob("samples_*.jsonl")
    lines = samples.read_text(encoding="utf-8").splitlines()
    return json.loads(results.read_text())["results"]["tiny_arithmetic"], [json.loads(line) for line in lines]


def test_a_task_is_asked_and_scored(endpoint: Endpoint, tmp_path: Path) -> None:
    generated = endpoint.health()["generated_tokens"]
    metrics, samples = evaluated(endpoint, tmp_path)
    assert endpoint.health()["generated_tokens"] > generated
    scores = []
    for sample in samples:
        reply = endpoint.client().chat.completions.create(
            model="presafe", messages=user(sample["doc"]["question"]), temperature=0
        )
        assert sample["resps"] == [[reply.choices[0].message.content]]
        found = re.search(r"answer is (\w+)", reply.choices[0].message.content)
        scores.append(found is not None and found[1] == sample["doc"]["answer"])
    assert metrics["exact_match,number"] == sum(scores) / len(scores) == 0.5


def test_a_task_without_stop_sequences(endpoint: Endpoint, tmp_path: Path) -> None:
    metrics, _ = evaluated(endpoint, tmp_path, "--gen_kwargs", '{"until": [], "temperature": 0, "max_gen_toks": 200}')
    assert metrics["exact_match,number"] == 0.5
