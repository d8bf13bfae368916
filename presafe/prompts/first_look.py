"""The first look at a file of prompts, for `presafe init`: its text column, and how many rows there are."""

from collections.abc import Sequence

from presafe.config import Prompts, Source
from presafe.config.prompts import Origin
from presafe.errors import user_error
from presafe.prompts.formats import rows
from presafe.prompts.load import load_source
from presafe.records import Kind

TEXT_COLUMNS = ("text", "prompt", "goal", "instruction", "question", "behavior")


def look_at(path: str, kind: Kind) -> tuple[str, int]:
    """The column that holds the prompts, and the number of good rows.

    Raises UserError where there is no such file, no column or several that may be meant, or a bad row.
    """
    column = _text_column(path, kind)
    source = Source(name=kind, kind=kind, path=path, columns={"text": column})
    settings = Prompts(sources=[source], suites=[{"name": kind, "path": path}])
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
        needed=f"one of {', '.join(TEXT_COLUMNS)}",
        change="rename the column that holds the prompts to `text`",
    )
