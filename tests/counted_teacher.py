"""A run whose teacher is an endpoint that counts what it is asked, ready for stage `teacher`, and its driver."""

import os
import subprocess
import sys
from pathlib import Path

import yaml
from finished_stage import finish

from presafe import storage
from presafe.config import load_config
from presafe.records import Prompt
from run_directory import save_model


def write_run(
    root: Path,
    url: str,
    *,
    rows: int,
    block: int,
    actors: int = 1,
    address: str | None = None,
    runs: str | None = None,
) -> Path:
    """A model, a config in `root`, and the output of its stage `prompts`; the prompts are p0, p1, ...

    The run directory is in `runs`, by default `root` itself.
    """
    save_model(root)
    settings = {
        "run": {"name": "run", "storage": runs or str(root)},
        "cluster": {"address": address},
        "model": {"path": str(root / "base"), "dtype": "float32"},
        "suites": [{"name": "e", "function": "m:f"}],
        "prompts": {"sources": [{"name": "s", "function": "m:f"}]},
        "teacher": {
            "workers": {"num_workers": actors},
            "engine": {"kind": "http", "base_url": url, "model": "counting", "concurrency": 8},
            "answer": {"max_new_tokens": 24},
            "max_traces": 0,
            "cot_on_decisions": 0,
            "rows_per_block": block,
        },
    }
    path = root / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    prompts = [Prompt(f"p{k}", f"add {k}", "benign", "s", None, None, "classifier", f"p{k}", None) for k in range(rows)]
    run = load_config(str(path), []).run_directory
    finish(run, "prompts", lambda folder: {"n": storage.write_rows(f"{folder}/prompts.parquet", prompts, Prompt)})
    return path


def driver(path: Path, stderr: int | None = None) -> "subprocess.Popen[str]":
    """`presafe teacher` on the config at `path`; `stderr` as subprocess has it."""
    command = [sys.executable, "-c", "from presafe.cli import main; main()", "teacher", "--config", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENAI_API_KEY": "none"}
    return subprocess.Popen(command, env=environment, stderr=stderr, text=True)
