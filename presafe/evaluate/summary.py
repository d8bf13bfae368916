"""What a run prints at its end: the table, the report's path, and how to talk to the model."""

import json
import os
import sys

from presafe import storage
from presafe.config import Config
from presafe.decision.rule import Path, path_taken
from presafe.evaluate import table
from presafe.evaluate.stage import read_measurements
from presafe.records import EvalRecord
from presafe.suites import suite_prompts


def print_summary(config: Config) -> None:
    """Print the result of a finished run."""
    run = config.run_directory
    print("\n" + table.as_text(table.rows(read_measurements(config))))
    print(f"\nreport    {_short(storage.join(run.folder('evaluate'), 'report.html'))}")
    program = _short(os.path.join(os.path.dirname(sys.executable), "presafe"))
    print(f"endpoint  {program} serve {_short(run.folder('model'))}")
    url = f"http://{config.serve.host}:{config.serve.port}/v1/chat/completions"
    paths: tuple[tuple[str, Path], ...] = (("Path A", "refuse"), ("Path B", "think"))
    for title, path in paths:
        text = _example(config, path)
        if text is not None:
            body = json.dumps({"model": "presafe", "messages": [{"role": "user", "content": text}]})
            quoted = body.replace("'", "'\\''")
            print(f"{title}    curl -s {url} -H 'content-type: application/json' -d '{quoted}'")


def _example(config: Config, path: Path) -> str | None:
    """The first prompt on which the aligned model took `path` by itself: a refused one, or a problem it solved."""
    run = config.run_directory
    records = storage.read_rows(storage.join(run.folder("evaluate"), "records.parquet"), EvalRecord)
    wanted = "refuse" if path == "refuse" else "correct"
    shown = {
        row.prompt_id
        for row in records
        if (row.model, row.cot, row.gate) == ("aligned", "on", "off")
        and row.verdict == wanted
        and path_taken(row.reasoning, refused=row.verdict == "refuse") == path
    }
    return next((prompt.text for prompt in suite_prompts(run) if prompt.prompt_id in shown), None)


def _short(path: str) -> str:
    """Relative to the working directory where it lies inside."""
    if not storage.is_local(path):
        return path
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
