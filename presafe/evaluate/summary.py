"""What a run prints at its end: the table, the report's path, and how to talk to the model."""

import json
import os
import sys

import pyarrow.compute as pc

from presafe import storage
from presafe.config import Config
from presafe.conversation import messages
from presafe.decision.rule import Path
from presafe.evaluate import table
from presafe.evaluate.stage import read_measured
from presafe.records import Prompt
from presafe.suites import suite_file


def print_summary(config: Config) -> None:
    """Print the result of a finished run."""
    run, measured = config.run_directory, read_measured(config)
    print("\n" + table.as_text(table.rows(measured.measurements)))
    print(f"\nreport    {_short(storage.join(run.folder('evaluate'), 'report.html'))}")
    program = _short(os.path.join(os.path.dirname(sys.executable), "presafe"))
    print(f"endpoint  {program} serve {_short(run.folder('model'))}")
    url = f"http://{config.serve.host}:{config.serve.port}/v1/chat/completions"
    paths: tuple[tuple[str, Path], ...] = (("Path A", "refuse"), ("Path B", "think"))
    for title, path in paths:
        if path in measured.examples:
            asked = _prompt(config, measured.examples[path])
            body = json.dumps({"model": "presafe", "messages": messages(asked)})
            quoted = body.replace("'", "'\\''")
            print(f"{title}    curl -s {url} -H 'content-type: application/json' -d '{quoted}'")


def _prompt(config: Config, prompt_id: str) -> Prompt:
    return next(storage.stream_rows(suite_file(config.run_directory), Prompt, pc.field("prompt_id") == prompt_id))


def _short(path: str) -> str:
    """Relative to the working directory where it lies inside."""
    if not storage.is_local(path):
        return path
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
