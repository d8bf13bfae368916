"""`presafe suites`: which public suites there are, on which terms, and whether this machine can have them."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from presafe.hub_access import TIMEOUT_S, access, hub_errors
from presafe.suites.catalogue import PUBLIC
from presafe.suites.public import PublicSuite

SHOWN = ("name", "kind", "rows", "metric", "grader", "licence", "access", "commit", "copy")
"""Columns of the table; `reachable` is one where it was looked at."""
CHECKS = 8
"""At once."""


def print_suites(*, as_json: bool, check: bool) -> None:
    """Print a line a suite, or a JSON list; `check` asks where each one lies whether it is there."""
    entries = [_entry(suite) for suite in PUBLIC.values()]
    if check:
        with ThreadPoolExecutor(CHECKS) as threads:
            for entry, found in zip(entries, threads.map(_reachable, PUBLIC.values()), strict=True):
                entry["reachable"] = found
    if as_json:
        print(json.dumps(entries, indent=2, ensure_ascii=False))
        return
    names = [*SHOWN, *(["reachable"] if check else [])]
    print(_table([names, *([_cell(entry, name) for name in names] for entry in entries)]))
    print("\nIn a config: `suites: [{public: NAME}]`. --json says pages, columns, forms, overlaps and citations, too.")


def _entry(suite: PublicSuite) -> dict[str, Any]:
    return {
        "name": suite.name,
        "kind": suite.kind,
        "rows": suite.rows,
        "metric": suite.metric,
        "grader": suite.grader,
        "licence": suite.licence,
        "gated": suite.gated,
        "commit": suite.commit,
        "copy": _copy(suite),
        "page": suite.page,
        "overlaps": dict(suite.overlaps),
        "citation": suite.citation,
        "note": suite.note,
        "source": dict(suite.source),
    }


def _cell(entry: dict[str, Any], name: str) -> str:
    match name:
        case "access":
            return "gated" if entry["gated"] else "open"
        case "rows":
            return "not counted" if entry["rows"] is None else f"{entry['rows']:,}"
        case "commit":
            return "not pinned" if entry["commit"] is None else str(entry["commit"][:7])
        case "copy":
            return "none" if entry["copy"] is None else "cached"
    return str(entry[name])


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def _copy(suite: PublicSuite) -> str | None:
    """The folder of the hub's cache that has its data; of files elsewhere there is none."""
    if "dataset" not in suite.source:
        return None
    from huggingface_hub import snapshot_download

    with suppress(*hub_errors()):
        folder = snapshot_download(
            suite.source["dataset"],
            repo_type="dataset",
            revision=suite.source.get("revision"),
            local_files_only=True,
            allow_patterns=[],
        )
        if any(file.is_file() and not file.name.startswith((".", "README")) for file in Path(folder).rglob("*")):
            return folder
    return None


def _reachable(suite: PublicSuite) -> str:
    if "dataset" in suite.source:
        return access(suite.source["dataset"], suite.source.get("revision"))
    import httpx

    try:
        answer = httpx.head(suite.source["path"], follow_redirects=True, timeout=TIMEOUT_S)
    except httpx.HTTPError:
        return "out of reach"
    return "open" if answer.is_success else "no such revision" if answer.status_code == 404 else "out of reach"
