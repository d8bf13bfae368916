"""`.venv/bin/python tests/clients/export_tiny.py FOLDER`: the tiny model to serve, and in `facts.json` what it says.

The clients' environment has no torch, so this runs in the project's own.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import tiny_reasoner

FACTS = ["HARMFUL", "BENIGN", "ENDLESS", "REASONING", "ANSWER", "REFUSAL", "GATE_REFUSAL"]

folder = Path(sys.argv[1])
export = tiny_reasoner.export_tiny_reasoner(str(folder))
facts = {name.lower(): getattr(tiny_reasoner, name) for name in FACTS}
(folder / "facts.json").write_text(json.dumps({"folder": export.folder, **facts}), encoding="utf-8")
