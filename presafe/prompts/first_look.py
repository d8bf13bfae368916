"""The first look at a file of prompts, for `presafe init`: where they are in it, and how many rows there are."""

from collections.abc import Sequence
from typing import Any

from presafe.config import Prompts, TrainingSource
from presafe.config.prompts import Origin
from presafe.errors import user_error
from presafe.files import Problem
from presafe.prompts.formats import rows
from presafe.prompts.load import load_source
from presafe.prompts.turns import listed
from presafe.records import Kind

TEXT_COLUMNS = ("text", "prompt", "goal", "instruction", "question", "behavior", "messages", "conversations")


def look_at(path: str, kind: Kind, column: str | None = None) -> tuple[dict[str, str], int]:
    """Where the prompts are, as in a source's `columns`, guessed where no column is named, and how many good rows there
    are. A column of lists, or of JSON lists, holds conversations.

    Raises UserError where there is no such file, no such column, none or several to guess from, or a bad row.
    """
    columns = _columns(path, kind, column)
    source = TrainingSource.model_validate({"name": kind, "kind": kind, "path": path, "columns": columns})
    settings = Prompts(sources=[source])
    return columns, len(load_source(source, settings, 0, attacks=False).good)


def _columns(path: str, kind: Kind, column: str | None) -> dict[str, str]:
    seen, first = dict[str, None](), dict[str, Any]()

    def wanted(names: Sequence[str]) -> set[str]:
        seen.update(dict.fromkeys(names))
        return {name for name in names if name == column or name.lower() in TEXT_COLUMNS}

    for row, problem in rows(Origin(name=kind, path=path), wanted, 0):
        seen.update(dict.fromkeys(row))
        if problem is None:
            first = row
            break
    found = [column] if column else [name for name in seen if name.lower() in TEXT_COLUMNS]
    if len(found) == 1 or "text" in found:
        chosen = "text" if "text" in found else found[0]
        return {"text" if isinstance(listed(first.get(chosen)), Problem) else "messages": chosen}
    raise user_error(
        found=f"{'several columns' if found else 'no column'} of prompts in {path}, where there is "
        f"{', '.join(seen) or 'nothing'}",
        needed=f"one that is called {', '.join(TEXT_COLUMNS[:-1])} or {TEXT_COLUMNS[-1]}",
        change=f"name the column that holds the prompts: --{kind}-column NAME",
    )
