"""Public files load as they are published, with the few lines that docs/teacher.md shows for each."""

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from loaded_source import loaded

from presafe.config import Source
from presafe.prompts.load import Loaded
from presafe.prompts.prompt_row import RawPrompt

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
PAGE = (ROOT / "docs" / "teacher.md").read_text()
LINES = {
    entry["name"]: entry
    for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    for entry in yaml.safe_load(block)
}
"""Sources and suites of the page, by name."""

EXPECTED = {
    "advbench": (520, {"harmful"}, 0),
    "harmbench": (400, {"harmful"}, 0),
    "harmbench_standard": (200, {"harmful"}, 0),
    "xstest_safe": (250, {"benign"}, 0),
    "xstest": (450, {"benign", "harmful"}, 0),
    "gptfuzzer": (100, {"harmful"}, 0),
    "self_instruct": (252, {"benign"}, 0),
    "seed_tasks": (175, {"benign"}, 0),
    "gsm8k": (1319, {"reasoning"}, 1319),
    "math500": (500, {"reasoning"}, 500),
}
"""Rows, kinds and references of the copies beside the repository."""
FOLDERS = {"gsm8k": "gsm8k", "math500": "math500"}
"""Where two files have the same name."""


@pytest.mark.parametrize("name", LINES)
def test_every_entry_of_the_page_is_a_source(name):
    Source.model_validate(LINES[name])


def test_the_page_has_a_line_for_every_file():
    assert EXPECTED.keys() <= LINES.keys()


def read(name: str) -> Loaded[RawPrompt]:
    """The rows of the entry of this name, from the copy that has its file."""
    (path,) = DATA.rglob(f"{FOLDERS.get(name, '*')}/{Path(LINES[name]['path']).name}")
    return loaded("", suite=True, share=0, **{"kind": None, **LINES[name], "path": str(path)})


@pytest.mark.skipif(not DATA.exists(), reason="no public benchmark data beside the repository")
@pytest.mark.parametrize("name", EXPECTED)
def test_a_public_file_loads_whole(name):
    rows, kinds, references = EXPECTED[name]
    found = read(name)
    assert (len(found.good), found.bad) == (rows, [])
    assert {prompt.kind for prompt in found.good} == kinds
    assert sum(prompt.reference is not None for prompt in found.good) == references


@pytest.mark.skipif(not DATA.exists(), reason="no public benchmark data beside the repository")
def test_what_the_lines_read_is_what_the_files_mean():
    assert all(re.fullmatch(r"-?[\d,.]+", prompt.reference) for prompt in read("gsm8k").good)
    assert Counter(prompt.kind for prompt in read("xstest").good) == {"benign": 250, "harmful": 200}
    with_context = {prompt.text for prompt in read("harmbench").good} - {
        prompt.text for prompt in read("harmbench_standard").good
    }
    assert sum("\n\n" in text for text in with_context) >= 100
