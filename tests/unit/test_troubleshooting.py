"""docs/troubleshooting.md has every message that a user may cause, as the code composes it, and no other."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
VARIABLE = "…"


def template(node: ast.expr) -> str:
    """The constant parts of a string, with a sign where it differs."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(template, node.values))
    return VARIABLE


def composed(file: Path) -> set[str]:
    """What the calls of `user_error` in a file begin with: what was found and what was needed."""
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    parts = [
        {keyword.arg: template(keyword.value) for keyword in call.keywords}
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "user_error"
    ]
    return {f"found {part['found']}; needed {part['needed']}" for part in parts}


def test_the_page_has_every_message_and_no_other():
    files = [file for room in ("presafe", "serve", "jobs") for file in (ROOT / room).rglob("*.py")]
    told = set().union(*map(composed, files))
    rows = re.findall(r"^\| (`+) ?(.+?) ?\1 \|", PAGE, flags=re.MULTILINE)
    shown = {text.replace("\\|", "|") for _, text in rows}
    assert len(told) > 80
    assert sorted(told - shown) == []
    assert sorted(shown - told) == []


def test_every_row_says_why_and_what_to_do():
    for row in re.findall(r"^\| `.+$", PAGE, flags=re.MULTILINE):
        cells = row.strip("| ").split(" | ")
        assert len(cells) == 3, row
        assert all(len(cell) > 3 for cell in cells), row


def test_only_the_rooms_own_errors_are_raised_without_the_three_parts():
    """A message is composed by `user_error`; the others pass on one that was, or list what pydantic found."""
    passed_on = {"align/train/training.py", "config/whole.py", "errors.py", "runtime.py", "deployment/launch.py"}
    for room in ("presafe", "serve", "jobs"):
        for file in (ROOT / room).rglob("*.py"):
            if re.search(r"\bUserError\((?!ValueError)", file.read_text()):
                assert str(file.relative_to(ROOT / room)) in passed_on, file
