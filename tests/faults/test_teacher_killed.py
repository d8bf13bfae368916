"""SIGKILL of the teacher's driver: the same command goes on with what is missing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from presafe import storage
from presafe.records import Prompt, TeacherAnswer, Trace
from run_directory import save_model

COUNT, BLOCK = 160, 20


def write_config(root: Path) -> Path:
    """A config whose prompts include one that is too long for the engine."""
    texts = [f"add {k} and three" for k in range(COUNT - 1)] + ["lamp " * 200]
    (root / "prompts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (root / "suite.jsonl").write_text(json.dumps({"text": "please"}) + "\n")
    settings = {
        "run": {"name": "run", "storage": str(root)},
        "model": {"path": str(root / "base"), "dtype": "float32"},
        "prompts": {
            "sources": [{"name": "s", "kind": "benign", "path": str(root / "prompts.jsonl")}],
            "suites": [{"name": "e", "kind": "harmful", "path": str(root / "suite.jsonl")}],
            "classifier_prompts": 60,
            "validation_prompts": 20,
        },
        "teacher": {
            "engine": {"batch_size": 4, "max_prompt_tokens": 100},
            "answer": {"max_new_tokens": 24},
            "trace": {"max_new_tokens": 24},
            "rows_per_block": BLOCK,
            "max_unscored_share": 1.0,
        },
    }
    path = root / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def presafe(verb: str, path: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", "from presafe.cli import main; main()", verb, "--config", str(path)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True)


def blocks(folder: Path) -> dict[str, list[str]]:
    """Ids by file of the blocks that are on disk."""
    found = {}
    for file in sorted((folder / "answers/generations").glob("*.parquet")):
        try:
            found[file.name] = pq.read_table(file)["task_id"].to_pylist()
        except (OSError, ValueError):
            continue  # still being written
    return found


def test_a_killed_driver_loses_at_most_the_blocks_in_flight(tmp_path):
    save_model(tmp_path)
    path, folder = write_config(tmp_path), tmp_path / "run/teacher"
    assert presafe("prompts", path).wait() == 0
    driver = presafe("teacher", path)
    while not (before := blocks(folder)):
        assert driver.poll() is None, "the driver ended before a block was written"
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    before = blocks(folder)
    assert not (folder / "manifest.json").exists()
    written = {file: (folder / "answers/generations" / file).stat().st_mtime_ns for file in before}

    assert presafe("teacher", path).wait() == 0
    after = blocks(folder)
    assert {file: (folder / "answers/generations" / file).stat().st_mtime_ns for file in before} == written
    prompts = [p for p in storage.read_rows(f"{tmp_path}/run/prompts/prompts.parquet", Prompt) if p.split != "evaluate"]
    expected = {f"{p.prompt_id}-off-0" for p in prompts} | {
        f"{p.prompt_id}-on-0" for p in prompts if p.split == "align"
    }
    assert Counter(task for ids in after.values() for task in ids) == Counter(expected), "every task exactly once"
    assert len(before) < len(after)

    manifest = json.loads((folder / "manifest.json").read_text())["rows"]
    long = next(p for p in prompts if len(p.text) > 500)
    answers = storage.read_rows(f"{folder}/answers.parquet", TeacherAnswer)
    assert {row.prompt_id for row in answers} == {p.prompt_id for p in prompts} - {long.prompt_id}
    failures = storage.read_table(f"{folder}/quarantine").to_pylist()
    assert manifest["quarantined"] == len(failures) == 1 + (long.split == "align")
    assert "tokens; the engine takes 100" in failures[0]["reason"]
    storage.read_rows(f"{folder}/traces.parquet", Trace)
