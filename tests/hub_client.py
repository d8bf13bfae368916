"""What a process of its own, whose environment leads to a hub, reads of suites.

    python tests/hub_client.py SUITE...     fields of a suite as JSON each; prints a line of JSON for each

A line has the prompts' number, kinds, references and first rows, and what was set aside; or the error's words.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from hub_server import Hub

ROOT = Path(__file__).parents[1]
TOKEN = os.environ.get("HF_TOKEN", "")


def read_suites(hub: Hub, home: Path, *suites: dict[str, Any], token: str | None = None, **more: str) -> list[Any]:
    """The lines about `suites`, with the cache of the hub's client in `home`; `more` is for its environment.

    A suite's own `token` goes before `token`.
    """
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **hub.environment(home, token), **more}
    command = [sys.executable, __file__, *map(json.dumps, suites)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def _read(suite: dict[str, Any]) -> dict[str, Any]:
    from loaded_source import loaded

    from presafe.errors import UserError

    os.environ["HF_TOKEN"] = suite.pop("token", TOKEN)
    try:
        found = loaded("", suite=True, share=0, **suite)
    except UserError as error:
        return {"error": str(error)}
    return {
        "rows": len(found.good),
        "kinds": sorted({prompt.kind for prompt in found.good}),
        "references": dict(Counter(prompt.reference for prompt in found.good)),
        "first": [prompt.text for prompt in found.good[:3]],
        "questions": [prompt.question for prompt in found.good[:3]],
        "categories": sorted({str(prompt.category) for prompt in found.good}),
    }


if __name__ == "__main__":
    import datasets

    datasets.disable_progress_bars()
    for given in sys.argv[1:]:
        print(json.dumps(_read(json.loads(given))), flush=True)
