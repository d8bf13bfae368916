"""Two drivers of one run directory: the second is told who writes; once the first is killed, the next goes on."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import yaml
from finished_stage import finish

from holding_server import HoldingServer
from presafe import storage
from presafe.config import load_config
from presafe.records import Prompt, TeacherAnswer
from run_directory import save_model

ROWS, BLOCK = 60, 5


def write_run(root: Path, url: str) -> Path:
    """A config and the output of its stage `prompts`."""
    settings = {
        "run": {"name": "run", "storage": str(root)},
        "model": {"path": str(root / "base"), "dtype": "float32"},
        "prompts": {"sources": [{"name": "s", "function": "m:f"}], "suites": [{"name": "e", "function": "m:f"}]},
        "teacher": {
            "engine": {"kind": "http", "base_url": url, "model": "counting", "concurrency": 5},
            "answer": {"max_new_tokens": 24},
            "max_traces": 0,
            "cot_on_decisions": 0,
            "rows_per_block": BLOCK,
        },
    }
    path = root / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    rows = [Prompt(f"p{k}", f"add {k}", "benign", "s", None, None, "classifier", f"p{k}", None) for k in range(ROWS)]
    run = load_config(str(path), []).run_directory
    finish(run, "prompts", lambda folder: {"n": storage.write_rows(f"{folder}/prompts.parquet", rows, Prompt)})
    return path


def driver(path: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", "from presafe.cli import main; main()", "teacher", "--config", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENAI_API_KEY": "none"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def test_one_of_two_drivers_writes_and_another_takes_its_place(tmp_path):
    save_model(tmp_path)
    with HoldingServer() as endpoint:
        path = write_run(tmp_path, endpoint.url)
        endpoint.hold_at(ROWS // 2)
        first = driver(path)
        while not endpoint.held.wait(0.2):
            assert first.poll() is None, first.communicate()
        second = driver(path)
        told = second.communicate()[1]
        assert second.returncode == 2, told
        assert f"another writer of {tmp_path}/run: process {first.pid} on " in told
        assert first.poll() is None
        first.send_signal(signal.SIGKILL)
        first.communicate()
        endpoint.release()
        third = driver(path)
        told = third.communicate()[1]
        assert third.returncode == 0, told
        assert f"the writer of {tmp_path}/run/writer.json" in told
        again = sum(endpoint.asked.values()) - len(endpoint.asked)
    answers = storage.read_rows(f"{tmp_path}/run/teacher/answers.parquet", TeacherAnswer)
    assert Counter(row.prompt_id for row in answers) == Counter(f"p{k}" for k in range(ROWS)), "every row exactly once"
    assert 0 < again <= BLOCK, "what the killed one was at"
    assert not (tmp_path / "run" / "writer.json").exists()
