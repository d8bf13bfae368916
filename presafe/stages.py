"""The stage contract: what went in and what came out, in a manifest; skip if done, refuse if mismatched.

A run directory holds one folder a stage. `started.json` is written before a stage's first row and `manifest.json` after
its last, so a folder with the first alone is an interrupted stage that the same config may resume.
"""

import hashlib
import importlib.metadata
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from presafe import __version__, storage
from presafe.errors import UserError, user_error

logger = logging.getLogger("presafe")

Rows = dict[str, int]
"""Row counts of a stage's output, by the output's name."""


@dataclass(frozen=True)
class RunDirectory:
    """`STORAGE/RUN`, with a folder for each stage."""

    root: str

    def folder(self, stage: str) -> str:
        return storage.join(self.root, stage)

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

    def _manifest(self, stage: str) -> str:
        return storage.join(self.folder(stage), "manifest.json")


def run_stage(
    run: RunDirectory,
    stage: str,
    settings: dict[str, Any],
    body: Callable[[str], Rows],
    *,
    inputs: tuple[str, ...] = (),
    also_writes: tuple[str, ...] = (),
    force: bool = False,
) -> bool:
    """Run `body(output folder)` unless this very stage is done already; True where it ran.

    `settings` is all that determines the output; `inputs` are the stages it reads, which must have finished;
    `also_writes` are further folders of the run directory that the stage fills and that get the same manifest.
    Raises UserError where the folder holds another config's output, unless `force` removes that first.
    """
    folder = run.folder(stage)
    wanted = {
        "stage": stage,
        "settings": settings,
        "inputs": {name: run.manifest(name)["output_hash"] for name in inputs},
    }
    wanted_hash = content_hash(wanted)
    started, manifest = storage.join(folder, "started.json"), storage.join(folder, "manifest.json")
    if force:
        for name in (stage, *also_writes):
            storage.remove(run.folder(name))
    resumed = storage.exists(started)
    if resumed:
        earlier = storage.read_json(started)
        if content_hash(earlier) != wanted_hash:
            raise user_error(
                found=f"{folder} of another config ({'; '.join(differences(earlier, wanted))})",
                needed="an empty folder or the same config",
                change="set another run.name, or pass --force to throw the old output away",
            )
        if storage.exists(manifest):
            logger.info("%-9s skipped: %s is done", stage, folder)
            return False
        logger.info("%-9s resumes in %s", stage, folder)
    else:
        storage.make_folder(folder)
        try:
            storage.write_json(started, wanted)
        except OSError as error:
            raise storage.unwritable(folder, error) from error
    begin = time.monotonic()
    try:
        rows = body(folder)
    except UserError:
        if not resumed and storage.names(folder) == ["started.json"]:
            storage.remove(folder)  # nothing was done yet: the mended config must not meet this one's traces
        raise
    done = wanted | {
        "output_hash": wanted_hash,
        "versions": versions(),
        "rows": rows,
        "wall_seconds": round(time.monotonic() - begin, 1),
    }
    for name in (*also_writes, stage):
        storage.write_json(storage.join(run.folder(name), "manifest.json"), done)
    counts = ", ".join(f"{count} {name}" for name, count in rows.items())
    logger.info("%-9s done in %.0f s: %s", stage, done["wall_seconds"], counts)
    return True


def content_hash(value: Any) -> str:
    """16 hex digits of the SHA-256 of `value` as canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def differences(found: Any, wanted: Any, path: str = "") -> list[str]:
    """Dotted paths at which two JSON values differ, with both values."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = sorted(found.keys() | wanted.keys())
        return [line for key in keys for line in differences(found.get(key), wanted.get(key), f"{path}.{key}")]
    return [] if found == wanted else [f"{path.lstrip('.')} is {found!r} there and {wanted!r} here"]


def versions() -> dict[str, str]:
    """Versions of the packages that decide a result."""
    names = ("torch", "transformers", "peft", "ray", "deepspeed")
    return {"presafe": __version__} | {name: importlib.metadata.version(name) for name in names}
