"""The first look at a file of prompts, for `presafe init`: its text column, and how many rows there are."""

from collections.abc import Sequence

from presafe.config import Prompts, TrainingSource
from presafe.config.prompts import Origin
from presafe.errors import user_error
from presafe.prompts.formats import rows
from presafe.prompts.load import load_source
from presafe.records import Kind

TEXT_COLUMNS = ("text", "prompt", "goal", "instruction", "question", "behavior")


def look_at(path: str, kind: Kind, column: str | None = None) -> tuple[str, int]:
    """The column that holds the prompts, guessed where none is named (as in a source's `columns`), and how many good
    rows there are.

    Raises UserError where there is no such file, no such column, none or several to guess from, or a bad row.
    """
    column = column or _text_column(path, kind)
    source = TrainingSource(name=kind, kind=kind, path=path, columns={"text": column})
    settings = Prompts(sources=[source])
    return column, len(load_source(source, settings, 0, attacks=False).good)


def _text_column(path: str, kind: Kind) -> str:
    seen = dict[str, None]()

    def wanted(names: Sequence[str]) -> set[str]:
        seen.update(dict.fromkeys(names))
        return {name for name in names if name.lower() in TEXT_COLUMNS}

    for row, problem in rows(Origin(name=kind, path=path), wanted, 0):
        seen.update(dict.fromkeys(row))
        if problem is None:
            break
    found = [name for name in seen if name.lower() in TEXT_COLUMNS]
    if len(found) == 1 or "text" in found:
        return "text" if "text" in found else found[0]
    raise user_error(
        found=f"{'several columns' if found else 'no column'} of prompts in {path}, where there is "
        f"{', '.join(seen) or 'nothing'}",
        needed=f"one that is called {', '.join(TEXT_COLUMNS[:-1])} or {TEXT_COLUMNS[-1]}",
        change=f"name the column that holds the prompts: --{kind}-column NAME",
    )
