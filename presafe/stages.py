"""The stage contract: each part of a stage has a key, of what shapes its result; skip what is done, resume, or refuse.

A run directory holds one folder a stage. `parts/NAME.json` in it says what part NAME was made of, from before its first
row on, and that it is done once it is. `manifest.json` is there while all parts of the stage are. What a part was made
of is its settings, those that shape a result, and the content of what it reads (`presafe/content.py`): an upstream part
made anew with the same rows leaves what follows done. What reads rows one by one may follow them: further rows cost
themselves.
"""

import hashlib
import importlib.metadata
import json
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from presafe import __version__, storage, writer
from presafe.errors import UserError, user_error
from presafe.telemetry.part import PartAtWork, at_work
from presafe.telemetry.tracing import part_span

logger = logging.getLogger("presafe")

Rows = dict[str, int]
"""Row counts of a part's output, by the output's name."""

FORMAT = 3
"""Of the files in `parts/`."""

State = Literal["done", "running", "stale", "interrupted", "missing"]


@dataclass(frozen=True)
class Part:
    """One part of a stage.

    `settings` are those that shape its result, as plain JSON; `reads` tells the fingerprint of everything it reads, by
    name, once the parts before it are done; `run` makes it, in the stage's folder, and goes on where it was
    interrupted. `writes` are its files and folders inside the run directory, but those that it replaces as a whole.
    `follows` names what it reads row by row: where nothing else differs, what it wrote stays, and `run` makes the rows
    that are missing and drops those of what is no longer there.
    """

    name: str
    settings: dict[str, Any]
    reads: Callable[[], dict[str, str]]
    run: Callable[[str], Rows]
    writes: tuple[str, ...]
    follows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """How a part stands: with what differs from what it is made of, and since when it runs; `name` is STAGE.PART.

    `rows_stay` says of a stale one that its other rows do.
    """

    name: str
    state: State
    differs: tuple[str, ...] = ()
    rows_stay: bool = False
    since: str | None = None


@dataclass(frozen=True)
class RunDirectory:
    """`STORAGE/RUN`, with a folder for each stage."""

    root: str

    @property
    def name(self) -> str:
        return self.root.rsplit("/", 1)[-1]

    def folder(self, stage: str) -> str:
        return storage.join(self.root, stage)

    @property
    def memory(self) -> str:
        """Where fingerprints of large folders are kept."""
        return storage.join(self.root, "fingerprints.json")

    def manifest(self, stage: str) -> dict[str, Any]:
        """The manifest of a finished stage. Raises UserError where the stage has not finished."""
        path = self._manifest(stage)
        if not self.finished(stage):
            raise user_error(
                found=f"no finished stage {stage!r} in {self.root}",
                needed=f"its {path}",
                change=f"run `presafe {stage}` with the same config first",
            )
        manifest: dict[str, Any] = storage.read_json(path)
        return manifest

    def finished(self, stage: str) -> bool:
        return storage.exists(self._manifest(stage))

    def part(self, stage: str, part: str) -> dict[str, Any] | None:
        """What part `part` was made of; None where it was never begun."""
        path = self.part_file(stage, part)
        return storage.read_json(path) if storage.exists(path) else None

    def part_file(self, stage: str, part: str) -> str:
        return storage.join(self.folder(stage), "parts", f"{part}.json")

    def _manifest(self, stage: str) -> str:
        return storage.join(self.folder(stage), "manifest.json")


def run_stage(
    run: RunDirectory,
    stage: str,
    parts: Sequence[Part],
    *,
    inputs: tuple[str, ...] = (),
    redo: Collection[str] = (),
    force: bool = False,
) -> bool:
    """Run the parts that are not done; True where any ran.

    `inputs` are the stages that it reads, which must have finished. Raises UserError at a part that was made of
    something else, unless its name is in `redo`, which makes it anew; `force` makes all parts anew.
    """
    _check_format(run, stage)
    for name in inputs:
        run.manifest(name)
    if force:
        storage.remove(run.folder(stage))
        for part in parts:
            _forget(run, stage, part)
    ran = [_run_part(run, stage, part, part.name in redo) for part in parts]
    if any(ran) or not run.finished(stage):
        _write_manifest(run, stage, parts)
    else:
        logger.info("%-9s skipped: %s is done", stage, run.folder(stage))
    return any(ran)


def look(run: RunDirectory, stage: str, parts: Sequence[Part], writer_id: str | None = None) -> list[Found]:
    """How each part stands, as far as it can be told before the parts in front of it are made.

    `writer_id` is that of a writer who is at work; the part that it is at is `running`, whatever differs.
    """
    found = []
    for part in parts:
        earlier = run.part(stage, part.name)
        if earlier is None:
            found.append(Found(f"{stage}.{part.name}", "missing"))
            continue
        made_of, wanted = _made_of(earlier), _wanted(stage, part)
        lines = differences(made_of, wanted)
        runs = not earlier["done"] and writer_id is not None and earlier.get("writer") == writer_id
        state: State = "running" if runs else "stale" if lines else "done" if earlier["done"] else "interrupted"
        rows_stay = bool(lines) and _rows_stay(part, made_of, wanted)
        since = earlier["since"] if runs else None
        found.append(Found(f"{stage}.{part.name}", state, tuple(lines), rows_stay, since))
    return found


def _run_part(run: RunDirectory, stage: str, part: Part, redo: bool) -> bool:
    wanted, earlier, path = _wanted(stage, part), run.part(stage, part.name), run.part_file(stage, part.name)
    if earlier is not None and (differs := differences(_made_of(earlier), wanted)):
        if not redo:
            raise user_error(
                found=f"part {stage}.{part.name} of {run.root} made of something else ({'; '.join(differs)})",
                needed="the same, or an empty folder",
                change="set another run.name, or pass --redo to throw the old output of what differs away",
            )
        if _rows_stay(part, _made_of(earlier), wanted):
            logger.info("%-9s %s goes on with other rows (%s)", stage, part.name, "; ".join(differs))
        else:
            logger.info("%-9s %s is made anew (%s)", stage, part.name, "; ".join(differs))
            _forget(run, stage, part)
        earlier = None
    if earlier is not None and earlier["done"]:
        return False
    folder = run.folder(stage)
    storage.remove(storage.join(folder, "manifest.json"))
    if earlier is not None:
        logger.info("%-9s resumes %s in %s", stage, part.name, folder)
    _begin(folder, path, wanted | {"writer": writer.own_id(run.root)})
    begin, named = time.monotonic(), PartAtWork(run.name, stage, part.name)
    try:
        with at_work(named), part_span(named) as counted:
            rows = part.run(folder)
            counted.update(rows)
    except UserError:
        if earlier is None and not any(storage.exists(storage.join(run.root, name)) for name in part.writes):
            storage.remove(path)  # nothing was done yet: the mended config must not meet this one's traces
            _remove_empty(folder)
        raise
    seconds = round(time.monotonic() - begin, 1)
    done = {"done": True, "versions": versions(), "rows": rows, "wall_seconds": seconds}
    storage.write_json(path, wanted | done)
    counts = ", ".join(f"{count} {name}" for name, count in rows.items())
    logger.info("%-9s %s done in %.0f s%s", stage, part.name, seconds, f": {counts}" if counts else "")
    return True


def _begin(folder: str, path: str, wanted: dict[str, Any]) -> None:
    storage.make_folder(folder)
    try:
        storage.write_json(path, wanted | {"done": False, "since": time.strftime(writer.TIME)})
    except OSError as error:
        raise storage.unwritable(folder, error) from error


def _wanted(stage: str, part: Part) -> dict[str, Any]:
    made_of = {"settings": part.settings, "reads": part.reads()}
    return {"format": FORMAT, "part": f"{stage}.{part.name}", **made_of, "key": content_hash(made_of)}


def _made_of(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ("format", "part", "settings", "reads", "key")}


def _rows_stay(part: Part, made_of: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether the two differ in nothing but what the part follows."""

    def without(record: dict[str, Any]) -> dict[str, Any]:
        return record | {"reads": {name: what for name, what in record["reads"].items() if name not in part.follows}}

    return not differences(without(made_of), without(wanted))


def _forget(run: RunDirectory, stage: str, part: Part) -> None:
    for name in part.writes:
        storage.remove(storage.join(run.root, name))
    storage.remove(run.part_file(stage, part.name))


def _remove_empty(folder: str) -> None:
    if storage.names(folder) == ["parts"] and not storage.names(storage.join(folder, "parts")):
        storage.remove(folder)


def _write_manifest(run: RunDirectory, stage: str, parts: Sequence[Part]) -> None:
    records = {part.name: run.part(stage, part.name) or {} for part in parts}
    manifest = {
        "stage": stage,
        "key": content_hash({name: record["key"] for name, record in records.items()}),
        "parts": records,
        "rows": {name: count for record in records.values() for name, count in record["rows"].items()},
        "versions": versions(),
        "wall_seconds": round(sum(record["wall_seconds"] for record in records.values()), 1),
    }
    storage.write_json(storage.join(run.folder(stage), "manifest.json"), manifest)


def _check_format(run: RunDirectory, stage: str) -> None:
    if storage.exists(storage.join(run.folder(stage), "started.json")):
        raise user_error(
            found=f"{run.folder(stage)} of an earlier version of this package",
            needed="a folder that this version made",
            change="set another run.name; `presafe serve` still takes the model of the old one",
        )


def content_hash(value: Any) -> str:
    """16 hex digits of the SHA-256 of `value` as canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def differences(found: Any, wanted: Any, path: str = "") -> list[str]:
    """Dotted paths at which two JSON values differ, with both values; keys follow from what they are made of."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = sorted((found.keys() | wanted.keys()) - ({"key"} if not path else set()))
        return [line for key in keys for line in differences(found.get(key), wanted.get(key), f"{path}.{key}")]
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        pairs = enumerate(zip(found, wanted, strict=True))
        return [line for k, (there, here) in pairs for line in differences(there, here, f"{path}[{k}]")]
    return [] if found == wanted else [f"{path.lstrip('.')} is {_short(found)} there and {_short(wanted)} here"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def versions() -> dict[str, str]:
    """Versions of the packages that decide a result: recorded, and in no key."""
    names = ("torch", "transformers", "peft", "ray", "deepspeed")
    return {"presafe": __version__} | {name: importlib.metadata.version(name) for name in names}
