"""How the parts of a run stand: done, running and by whom, stale and why, interrupted, or missing."""

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from importlib import import_module
from typing import Any

from presafe import storage
from presafe.config import STAGES, Config
from presafe.config.whole import validated
from presafe.errors import UserError, user_error
from presafe.stages import Found, look
from presafe.writer import living

logger = logging.getLogger("presafe")

CONFIG = "config.json"
"""The config that a run directory was last worked on with."""
DIRECTORY = "directory"
"""Its key for the directory in which that was."""


def standing(config: Config, writer_id: str | None = None) -> list[Found]:
    """All parts of the run, in their order; `writer_id` is that of a writer who is at work."""
    run = config.run_directory
    stages = {stage: import_module(f"presafe.{stage}.stage").parts(config) for stage in STAGES}
    return [found for stage, parts in stages.items() for found in look(run, stage, parts, writer_id)]


def check_stale(config: Config, *, redo: bool) -> None:
    """Keep the config with the run, and tell what it would make anew. Raises UserError there, unless `redo`."""
    lines = [f"{found.name} ({'; '.join(_why(found))})" for found in standing(config) if found.state == "stale"]
    if lines and not redo:
        raise user_error(
            found=f"parts of {config.run_directory.root} made of something else: {', '.join(lines)}",
            needed="the same settings and files",
            change="set another run.name, or pass --redo to make these anew, and what follows where its rows change",
        )
    for line in lines:
        logger.info("will be made anew: %s", line)


def keep(config: Config) -> None:
    """Write the config into the run directory, and the directory that its relative paths start from."""
    storage.make_folder(config.run_directory.root)
    values = {DIRECTORY: os.getcwd(), **config.model_dump(mode="json")}
    storage.write_json(storage.join(config.run_directory.root, CONFIG), values)


def print_status(run: str, *, as_json: bool, jobs: Callable[[str], list[dict[str, Any]]] | None = None) -> None:
    """Print how the parts stand against the config that the run was last worked on with, and who works on them.

    Then its jobs on a cluster, where `jobs` finds those of a run directory; they may be there before the directory is.
    """
    root = storage.absolute(run).rstrip("/")
    begun = jobs is None or storage.exists(storage.join(root, CONFIG))
    by = living(root) if begun else None
    every = _against_its_config(run, by) if begun else []
    if not as_json:
        _print_parts(every, by)
    submitted = [] if jobs is None else jobs(root)
    if not begun and not submitted:
        raise no_run(run)
    parts = [_as_json(found, by) for found in every]
    if as_json:
        print(json.dumps(parts if jobs is None else {"parts": parts, "jobs": submitted}, indent=2))
    elif jobs is not None:
        print("\n".join(job["told"] for job in submitted) or "no job of this run on the cluster")


def _against_its_config(run: str, by: dict[str, Any] | None) -> list[Found]:
    with kept(run, []) as config:
        return standing(config, by["writer"] if by else None)


def _print_parts(every: Sequence[Found], by: dict[str, Any] | None) -> None:
    for found in every:
        who = [f"process {by['pid']} on {by['host']}, since {found.since}"] if by and found.since else []
        print(f"{found.name:18} {found.state:12} {'; '.join([*who, *_why(found)])}".rstrip())


def _why(found: Found) -> list[str]:
    return [*found.differs, *(["its other rows stay"] if found.rows_stay else [])]


def _as_json(found: Found, by: dict[str, Any] | None) -> dict[str, Any]:
    runs = {"host": by["host"], "pid": by["pid"], "since": found.since} if by and found.since else None
    return {"part": found.name, "state": found.state, "differs": list(found.differs), "running": runs}


@contextmanager
def kept(run: str, overrides: Sequence[str]) -> Iterator[Config]:
    """The config that the run was last worked on with, wherever the run lies now, changed by `overrides`.

    Inside, the working directory is the one that its relative paths start from, where this machine has it.
    """
    root = storage.absolute(run).rstrip("/")
    path = storage.join(root, CONFIG)
    if not storage.exists(path):
        raise no_run(run)
    folder, _, name = root.rpartition("/")
    values = storage.read_json(path)
    directory = values.pop(DIRECTORY, os.curdir)
    with chdir(directory if os.path.isdir(directory) else os.curdir):
        yield validated(Config, values, [*overrides, f"run.storage={folder}", f"run.name={name}"])


def no_run(run: str) -> UserError:
    """What is said of a folder in which no stage has worked."""
    return user_error(found=f"no {CONFIG} in {run}", needed="a run directory, STORAGE/NAME", change="correct the path")
