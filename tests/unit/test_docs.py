"""The documents say what is there: the tree names every module; commands, links and named tests exist."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from presafe.cli import command_line
from presafe.config import load_config, load_serve
from serve.protocol import ChatRequest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text()
TREE = (ROOT / "docs" / "architecture.md").read_text()
SERVING = (ROOT / "docs" / "serving.md").read_text()
SECURITY = (ROOT / "docs" / "security.md").read_text().split("## Nothing skips the decision")[1].split("\n## ")[0]


def rows_of_the_security_table() -> list[list[str]]:
    """Cells of each row: what a client sends, what happens, the tests."""
    lines = [line for line in SECURITY.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def presafe_commands() -> Iterator[list[str]]:
    """Arguments of every `presafe` command in a code block; a synopsis, with brackets, is none."""
    for page in PAGES:
        for block in re.findall(r"^```\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL):
            for line in re.findall(r"^(?:\.venv/bin/)?presafe (.*)", block, flags=re.MULTILINE):
                if "[--" not in line:
                    yield shlex.split(line, comments=True)


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
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()
    for config in re.findall(r"--config (\S+)", README):
        load_config(str(ROOT / config), [])


def test_every_command_of_presafe_can_be_given():
    verbs = set()
    for arguments in presafe_commands():
        parsed = command_line().parse_args(arguments)
        verbs.add(parsed.verb)
        if parsed.verb == "serve":
            load_serve(parsed.settings)
    assert verbs >= {"serve", "promote", "key", "watch", "run"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_every_row_of_the_security_table_has_its_tests():
    rows = rows_of_the_security_table()
    source = "\n".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    assert len(rows) > 25
    for row in rows:
        assert len(row) == 3, row
        names = re.findall(r"`(test_\w+)`", row[2])
        assert names, row
        for name in names:
            assert re.search(rf"^(?:async )?def {name}\(", source, flags=re.MULTILINE), name


def test_every_row_of_the_security_table_says_what_happens():
    for sent, happens, _ in rows_of_the_security_table():
        assert re.match(r"neutralised|400|harmless|refused|misjudged", happens), sent


def test_every_test_of_the_security_file_holds_a_row():
    tests = re.findall(r"^def (test_\w+)", (ROOT / "tests" / "serve" / "test_security.py").read_text(), re.MULTILINE)
    assert tests
    assert [name for name in tests if f"`{name}`" not in SECURITY] == []


def test_the_serving_page_names_every_field_error_and_metric():
    for field in ChatRequest.model_fields:
        assert f"`{field}`" in SERVING, field
    code = "\n".join(file.read_text() for file in (ROOT / "serve").glob("*.py"))
    errors = set(re.findall(r'\bcode(?:=| = .*, )"(\w+)"', code))
    assert len(errors) > 5
    for error in errors:
        assert f"`{error}`" in SERVING, error
    for metric in re.findall(r'"presafe_(\w+)"', (ROOT / "serve" / "metrics.py").read_text()):
        assert re.search(rf"`{metric}[`{{]", SERVING), metric
