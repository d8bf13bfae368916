"""How the parts of a run stand: done, stale and why, interrupted, or missing."""

import json
import logging
from collections.abc import Sequence
from importlib import import_module

from presafe import storage
from presafe.config import STAGES, Config
from presafe.config.whole import validated
from presafe.errors import user_error
from presafe.stages import Found, look

logger = logging.getLogger("presafe")

CONFIG = "config.json"
"""The config that a run directory was last worked on with."""


def standing(config: Config) -> list[Found]:
    """All parts of the run, in their order."""
    run = config.run_directory
    return [
        found for stage in STAGES for found in look(run, stage, import_module(f"presafe.{stage}.stage").parts(config))
    ]


def check_stale(config: Config, *, redo: bool) -> None:
    """Keep the config with the run, and tell what it would make anew. Raises UserError there, unless `redo`."""
    lines = [f"{found.name} ({_why(found)})" for found in standing(config) if found.state == "stale"]
    if lines and not redo:
        raise user_error(
            found=f"parts of {config.run_directory.root} made of something else: {', '.join(lines)}",
            needed="the same settings and files",
            change="set another run.name, or pass --redo to make these anew, and what follows where its rows change",
        )
    for line in lines:
        logger.info("will be made anew: %s", line)


def keep(config: Config) -> None:
    """Write the config into the run directory."""
    storage.make_folder(config.run_directory.root)
    storage.write_json(storage.join(config.run_directory.root, CONFIG), config.model_dump(mode="json"))


def print_status(run: str, *, as_json: bool) -> None:
    """Print how the parts stand against the config that the run was last worked on with."""
    every = standing(kept(run, []))
    if as_json:
        print(json.dumps([{"part": f.name, "state": f.state, "differs": list(f.differs)} for f in every], indent=2))
        return
    for found in every:
        print(f"{found.name:18} {found.state:12} {_why(found)}".rstrip())


def _why(found: Found) -> str:
    return "; ".join([*found.differs, *(["its other rows stay"] if found.rows_stay else [])])


def kept(run: str, overrides: Sequence[str]) -> Config:
    """The config that the run was last worked on with, wherever the run lies now, changed by `overrides`."""
    root = storage.absolute(run).rstrip("/")
    path = storage.join(root, CONFIG)
    if not storage.exists(path):
        raise user_error(
            found=f"no {CONFIG} in {run}", needed="a run directory, STORAGE/NAME", change="correct the path"
        )
    folder, _, name = root.rpartition("/")
    return validated(Config, storage.read_json(path), [*overrides, f"run.storage={folder}", f"run.name={name}"])
