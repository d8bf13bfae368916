"""The documents say what is there: the tree names every module; commands, links and named tests exist."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_lines import parsed

from presafe.cli import VERBS, main
from presafe.config import load_config, load_serve
from presafe.config.reference import reference
from presafe.telemetry.metrics import COUNTERS, GAUGES
from serve.api.protocol import ChatRequest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
READERS_CONFIGS = {"config.yaml", "first.yaml"}
"""What `presafe init` writes, and the quickstart beside it."""
TREE = (ROOT / "docs" / "architecture.md").read_text()
SERVING = (ROOT / "docs" / "serving.md").read_text()
SECURITY = (ROOT / "docs" / "security.md").read_text().split("## Nothing skips the decision")[1].split("\n## ")[0]


def rows_of_the_security_table() -> list[list[str]]:
    """Cells of each row: what a client sends, what happens, the tests."""
    lines = [line for line in SECURITY.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def command_lines() -> Iterator[str]:
    """Lines of every code block, fenced or indented, without `.venv/bin/`."""
    for page in PAGES:
        text = page.read_text()
        fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
        blocks = [block for language, block in fenced if language in ("", "bash")]
        blocks += re.findall(r"(?<=\n\n)((?: {4}.*\n)+)", text)
        for line in "".join(blocks).splitlines():
            yield line.strip().removeprefix(".venv/bin/")


def presafe_commands() -> Iterator[list[str]]:
    """Arguments of every `presafe` command in a code block; a synopsis, with brackets, is none."""
    for line in command_lines():
        if line.startswith("presafe ") and "[--" not in line:
            yield shlex.split(line.removeprefix("presafe "), comments=True)


def spoken_commands(program: str) -> Iterator[list[str]]:
    """Arguments of every command of `program` that a text names between backticks."""
    for page in PAGES:
        for span in re.findall(rf"`{program} ([^`]+)`", page.read_text()):
            yield span.split()


@pytest.mark.parametrize("folder", ["jobs", "presafe", "serve"])
def test_the_tree_names_every_module(folder):
    for file in (ROOT / folder).rglob("*.py"):
        assert file.name == "__init__.py" or file.name in TREE, file


def test_every_named_file_and_folder_is_there():
    names = {path.name for path in ROOT.rglob("*") if ".venv" not in path.parts}
    for name in re.findall(r"^ *([\w./-]+?)/? {2,}", TREE, flags=re.MULTILINE):
        assert Path(name).name in names, name


def test_every_target_of_make_is_there():
    commands = [line.split("#")[0].split()[1:] for line in command_lines() if line.startswith("make ")]
    targets = {command[0] for command in [*commands, *spoken_commands("make")]}
    assert targets >= {"demo", "test", "test-vllm", "bench"}
    for target in sorted(targets):
        subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=True)


def test_every_module_and_file_of_a_command_is_there():
    lines = "\n".join(command_lines())
    assert "python -m jobs.pipeline" in lines
    for module in re.findall(r"python -m ([\w.]+)", lines):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
    for file in re.findall(r"(?:--config|serve deploy|ray up) ((?:configs/|serve/)?[\w.-]+\.yaml)", lines):
        assert (ROOT / file).exists() or file in READERS_CONFIGS, file


def test_every_command_of_presafe_can_be_given():
    """It parses; its settings are known, in its own config or, where that is the reader's, in the demo's."""
    named = set()
    for arguments in presafe_commands():
        verb, given = parsed(arguments)
        named.add(verb)
        if verb == "serve":
            load_serve([*given["settings"]])
        elif "overrides" in given:
            config = ROOT / (given.get("config") or "")  # a run's own, for verbs that take a run
            load_config(str(config if config.is_file() else ROOT / "configs" / "demo.yaml"), [*given["overrides"]])
    assert named == set(VERBS)


def test_every_command_of_presafe_in_a_text_has_its_verb_and_options(capsys):
    for verb, *arguments in spoken_commands("presafe"):
        if verb == "VERB":
            continue
        with pytest.raises(SystemExit) as ended:
            main([verb, "--help"])
        assert ended.value.code == 0, verb
        known = capsys.readouterr().out
        for option in arguments:
            assert not option.startswith("--") or option in known, (verb, option)


def test_the_reference_of_the_config_is_in_step():
    told = "run `python -m presafe.config.reference > docs/configuration.md`"
    assert (ROOT / "docs" / "configuration.md").read_text() == reference(), told


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
    code = "\n".join(file.read_text() for file in (ROOT / "serve").rglob("*.py"))
    errors = set(re.findall(r'\bcode(?:=| = .*, )"(\w+)"', code))
    assert len(errors) > 5
    for error in errors:
        assert f"`{error}`" in SERVING, error
    for metric in re.findall(r'"presafe_(\w+)"', (ROOT / "serve" / "operations" / "metrics.py").read_text()):
        assert re.search(rf"`{metric}[`{{]", SERVING), metric


def test_the_watching_page_names_every_metric_of_jobs():
    page = (ROOT / "docs" / "watching.md").read_text().split("## Prometheus and Grafana")[1]
    for metric in (*GAUGES, *(f"{counter}_total" for counter in COUNTERS)):
        assert f"`{metric}`" in page, metric


def test_the_serving_page_names_the_versions_of_its_clients():
    rows = SERVING.split("## Clients")[1].split("\n## ")[0].split("|---|---|---|")[1]
    pinned = "\n".join((ROOT / f"constraints-{name}.txt").read_text() for name in ("clients", "litellm"))
    pinned += (ROOT / "tests" / "clients" / "node" / "package.json").read_text()
    versions = re.findall(r"\d+\.\d+\.\d+", rows)
    assert len(versions) > 5
    for version in versions:
        assert re.search(rf'(==|: "){re.escape(version)}("|$)', pinned, flags=re.MULTILINE), version
