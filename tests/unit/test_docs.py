"""The README says what is there: its tree names every module, its commands exist, its links lead somewhere."""

import re
from pathlib import Path

import pytest

from presafe.config import STAGES, load_config

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TREE = README.split("## What is where")[1]


@pytest.mark.parametrize("folder", ["jobs", "presafe", "serve"])
def test_the_tree_names_every_module(folder):
    for file in (ROOT / folder).rglob("*.py"):
        assert file.name == "__init__.py" or file.name in TREE, file


def test_every_named_file_and_folder_is_there():
    names = {path.name for path in ROOT.rglob("*") if ".venv" not in path.parts}
    for name in re.findall(r"^ *([\w./-]+?)/? {2,}", TREE, flags=re.MULTILINE):
        assert Path(name).name in names, name


def test_the_commands_of_the_readme_exist():
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text()
    for module in re.findall(r"python -m ([\w.]+)", README):
        assert (ROOT / (module.replace(".", "/") + ".py")).exists()
    for config in re.findall(r"--config (\S+)", README):
        load_config(str(ROOT / config), [])
    verbs = set(re.findall(r"bin/presafe (\w+)", README))
    assert verbs <= {*STAGES, "run", "serve", "watch"}


def test_links_lead_somewhere():
    for link in re.findall(r"\]\((?!https://)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
