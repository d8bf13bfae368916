"""Who may import whom: stages meet only through files."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGES = {"prompts", "teacher", "signals", "align", "evaluate"}
PRIVATE = STAGES | {"organism"}


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide who imports whom"
            yield node.module or ""


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("file", files("presafe"), ids=lambda file: str(file.relative_to(ROOT)))
def test_presafe_imports_neither_jobs_nor_serve_nor_another_stage(file):
    parts = file.relative_to(ROOT / "presafe").parts
    own = parts[0] if len(parts) > 1 else None
    for name in imports(file):
        top, _, rest = name.partition(".")
        assert top not in {"jobs", "serve"}, name
        room = rest.split(".")[0]
        if top == "presafe" and room in PRIVATE and own != "cli":
            assert room == own, f"{file.name} of {own} imports {name}"


@pytest.mark.parametrize("folder", ["presafe/align", "serve"])
def test_rooms_of_a_folder_import_one_another_in_one_direction(folder):
    """What a function imports when it runs counts, too; files beside the rooms are rooms of their own."""
    package, needs = folder.replace("/", "."), dict[str, set[str]]()
    for file in files(folder):
        room = file.relative_to(ROOT / folder).parts[0].removesuffix(".py")
        inside = {name.removeprefix(f"{package}.").split(".")[0] for name in imports(file) if name.startswith(package)}
        needs.setdefault(room, set()).update(inside - {room, package})
    needs.pop("__init__")
    assert len(needs) > 4
    TopologicalSorter(needs).prepare()  # raises CycleError


@pytest.mark.parametrize("folder", ["jobs", "serve"])
def test_jobs_and_serve_do_not_import_each_other(folder):
    other = {"jobs": "serve", "serve": "jobs"}[folder]
    for file in files(folder):
        assert all(name.partition(".")[0] != other for name in imports(file)), file


def test_every_folder_says_what_it_is_for():
    for file in (ROOT / "presafe").rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(file.read_text())), file


def test_job_files_are_short():
    for file in files("jobs"):
        assert len(file.read_text().splitlines()) < 80, file
