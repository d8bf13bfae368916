"""The scripts of node/, each a client of its own; without Node the tests that run them are skipped."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from clients.endpoint import Endpoint

NODE = Path(__file__).with_name("node")

needs_node = pytest.mark.skipif(
    shutil.which("node") is None or not (NODE / "node_modules").exists(),
    reason="Node or its packages are not installed: make test-clients, on a machine with npm",
)


def said(client: str, ask: str, endpoint: Endpoint, prompt: str, model: str = "presafe") -> dict[str, Any]:
    """What `node CLIENT.mjs ASK` prints."""
    command = ["node", f"{NODE}/{client}.mjs", ask, endpoint.url, prompt, model]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed
