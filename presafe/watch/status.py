"""How far an alignment is, read off what it leaves in its run directory, local or remote."""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from presafe import storage
from presafe.errors import user_error
from presafe.stages import RunDirectory

Row = dict[str, float]
State = Literal["starting", "running", "silent", "done"]

SILENCE = 120.0
"""Seconds without a step, and at least five steps' worth, after which a run is no longer called running."""


@dataclass(frozen=True)
class Status:
    """What there is to say about stage `align` of a run at the time `now`, in seconds since 1970."""

    name: str
    state: State
    step: int
    steps: int
    rows: list[Row]
    """Of metrics.jsonl, oldest first; they may be some seconds behind `step`."""
    updated: float | None
    """When the last step was reported, in seconds since 1970."""
    seconds_left: float | None
    checkpoints: list[int]
    """Steps of the committed checkpoints that are kept."""
    max_grad_norm: float
    wall_seconds: float | None
    """Of a finished stage, from the last start on."""
    now: float


def begun(root: str) -> bool:
    """Whether stage `align` has begun in `root`."""
    return storage.exists(_train_file(root))


def _train_file(root: str) -> str:
    return RunDirectory(root).part_file("align", "train")


def read_status(root: str, now: float) -> Status:
    """The status of the run in `root`, STORAGE/NAME. Raises UserError where stage `align` has not begun there."""
    folder = storage.join(root, "align")
    started = RunDirectory(root).part("align", "train")
    if started is None:
        raise user_error(
            found=f"no alignment in {root}: it has not started, or this is no run directory",
            needed=f"{folder}, which `presafe align` makes",
            change="give STORAGE/NAME of a run, or wait for it with --follow",
        )
    align = started["settings"]["align"]
    rows = _rows(storage.join(folder, "metrics.jsonl"))
    progress = _json(folder, "progress.json") or {}
    manifest = _json(folder, "manifest.json")
    step = int(progress.get("step", rows[-1]["step"] if rows else 0))
    state: State = "done" if manifest else _state(progress.get("updated"), rows, now)
    return Status(
        name=root.rsplit("/", 1)[-1],
        state=state,
        step=step,
        steps=align["steps"],
        rows=rows,
        updated=progress.get("updated"),
        seconds_left=progress.get("seconds_left") if state == "running" else None,
        checkpoints=_checkpoints(storage.join(folder, "checkpoints"), align["steps"] + 1 if manifest else step),
        max_grad_norm=align["max_grad_norm"],
        wall_seconds=manifest["wall_seconds"] if manifest else None,
        now=now,
    )


def _json(folder: str, name: str) -> dict[str, Any] | None:
    url = storage.join(folder, name)
    return storage.read_json(url) if storage.exists(url) else None


def _rows(url: str) -> list[Row]:
    """Rows of a file that may be a copy made while it was written: its last line may be cut off."""
    lines = storage.read_lines(url) if storage.exists(url) else []
    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise user_error(
                    found=f"{url}, whose line {number} is not JSON ({error})",
                    needed="the file as it was written",
                    change="remove that line",
                ) from error
    return rows


def _state(updated: float | None, rows: list[Row], now: float) -> State:
    if updated is None:
        return "starting"
    longest = max((row["seconds"] for row in rows[-20:]), default=0.0)
    return "running" if now - updated < max(SILENCE, 5 * longest) else "silent"


def _checkpoints(folder: str, step: int) -> list[int]:
    """Checkpoints before `step`: a later step begins only once the one before is committed."""
    names = storage.names(folder) if storage.exists(folder) else []
    found = {int(match[1]) for name in names if (match := re.match(r"step-(\d+)", name))}
    return [kept for kept in sorted(found) if kept < step]
