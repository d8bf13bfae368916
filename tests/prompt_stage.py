"""A small run of stage `prompts` on files that a test wrote."""

import json
import random
from pathlib import Path

from presafe import storage
from presafe.config import Config
from presafe.prompts import run_prompts
from presafe.records import Prompt
from presafe.suites import FOLDER, suite_prompts

WORDS = [
    f"{first}{second}" for first in ("ba", "de", "ki", "lo", "mu", "na") for second in ("ro", "se", "ti", "va", "zu")
]


def texts(count: int, seed: int = 0, length: int = 12) -> list[str]:
    """Sentences of random words: no two are alike."""
    rng = random.Random(seed)
    return [" ".join(rng.choice(WORDS) for _ in range(length)) + f" {k}" for k in range(count)]


def write_jsonl(path: Path, rows: list[dict | str]) -> str:
    """A file of rows; a string is the row's text."""
    lines = [json.dumps({"text": row} if isinstance(row, str) else row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


class Run:
    """A finished stage: its rows and reports."""

    def __init__(self, root: Path, sources: list[dict], suites: list[dict] | None = None, **prompts: object) -> None:
        root.mkdir(parents=True, exist_ok=True)
        if suites is None:
            suites = [{"name": "suite", "kind": "harmful", "path": write_jsonl(root / "s.jsonl", ["unlike all else"])}]
        sections = {"sources": sources, "classifier_prompts": 10, "validation_prompts": 4, **prompts}
        run = {"name": "run", "storage": str(root / "runs")}
        values = {"run": run, "model": {"path": "org/name"}, "suites": suites, "prompts": sections}
        config = Config.model_validate(values)
        run_prompts(config)
        self.folder = config.run_directory.folder("prompts")
        found = storage.read_rows(f"{self.folder}/prompts.parquet", Prompt)
        self.evaluate = list(suite_prompts(config.run_directory))
        self.wrapped = [row for row in found if row.wrapper is not None]
        self.plain = [row for row in found if row.wrapper is None]
        self.report = storage.read_json(f"{self.folder}/report.json")
        self.suite_folder = config.run_directory.folder(FOLDER)
        self.report |= storage.read_json(f"{self.suite_folder}/report.json")
        self.overlaps = storage.read_json(f"{self.folder}/overlaps.json")
        self.contamination = storage.read_json(f"{self.folder}/contamination.json")

    def quarantined(self) -> list[dict]:
        return storage.read_table(f"{self.folder}/quarantine").to_pylist()
