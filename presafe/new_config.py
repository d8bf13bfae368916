"""What `presafe init` writes: the smallest config for one's own model and two files of prompts."""

import os
import re
from pathlib import Path
from typing import Any

import yaml

from presafe.config import Config
from presafe.errors import user_error

Look = tuple[dict[str, str], int]
"""Where the prompts of a file are, as in a source's `columns`, and how many it has."""

FEWEST = 20
"""Prompts of a kind; fewer leave nothing to train on beside the suite."""

CPUS_BESIDE = 4
"""Logical CPUs of the private cluster beside one a GPU: Ray Data's own tasks need some."""

HEADING = """\
# Written by `presafe init`. The first tenth of each file is an evaluation suite; `keep_clear_of` leaves those rows out
# of training. Add held-out sets of your own where you have them: a further suite costs its own answers alone.
"""


def check_absent(output: str) -> None:
    """Raise UserError where there is a file already, no folder for it, or no name for a run."""
    if Path(output).exists():
        raise user_error(found=f"{output}, which is there", needed="a new file", change="give another --output")
    if not Path(output).parent.is_dir() or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", Path(output).stem):
        raise user_error(
            found=f"--output {output}",
            needed="a file in a folder that is there, with a name (it names the run) of letters, digits, dots, dashes",
            change="give another --output",
        )


def write_config(
    output: str, model: str, files: dict[str, str], looks: dict[str, Look], dtype: str, align: dict[str, Any]
) -> None:
    """Write the config and print what to run next. `files` and `looks` are by kind of prompt."""
    for kind, (_, count) in looks.items():
        if count < FEWEST:
            raise user_error(found=f"{count} {kind} prompts", needed=f"at least {FEWEST}", change="give a longer file")
    path = os.path.abspath(model) if Path(model).exists() else model
    gpus = align.get("workers", {}).get("num_workers", 0)
    training = sum(count - _suite_size(count) for _, count in looks.values())
    values: dict[str, Any] = {
        "run": {"name": Path(output).stem},
        "model": {"path": path, "dtype": dtype},
        "suites": [
            _rows(kind, file, looks[kind][0]) | {"limit": _suite_size(looks[kind][1])} for kind, file in files.items()
        ],
        "prompts": {
            "sources": [_rows(kind, file, looks[kind][0]) for kind, file in files.items()],
            "keep_clear_of": [*files],
            "classifier_prompts": max(1, min(1500, training // 4)),
            "validation_prompts": max(1, min(300, training // 8)),
        },
        "align": align,
    }
    if gpus:
        values["cluster"] = {"local_cpus": gpus + CPUS_BESIDE}
        pools = {stage: {"workers": {"num_workers": gpus, "num_gpus": 1}} for stage in ("teacher", "evaluate")}
        values |= pools | {stage: {"workers": {"num_gpus": 1}} for stage in ("signals", "serve")}
    Config.model_validate(values)
    with open(output, "x", encoding="utf-8") as file:
        file.write(HEADING + yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    print(f"wrote {output}; next:")
    print(f"  presafe run --config {output} --dry-run      # the whole config, and what it asks of the machine")
    print(f"  presafe align --plan --config {output}       # what the training needs")
    print(f"  presafe run --config {output}                # all stages, then the table")
    on_gpu = " workers.num_gpus=1" if gpus else ""
    print(f"  presafe serve runs/{Path(output).stem}/model{on_gpu}   # the aligned model, behind OpenAI's protocol")


def _rows(kind: str, file: str, columns: dict[str, str]) -> dict[str, Any]:
    named = {} if columns == {"text": "text"} else {"columns": {**columns}}
    return {"name": kind, "kind": kind, "path": file if "://" in file else os.path.abspath(file), **named}


def _suite_size(count: int) -> int:
    return max(1, count // 10)
