"""Folders in the model cache: one a recipe, complete or not there."""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from presafe import storage
from presafe.config import Settings
from presafe.errors import user_error
from presafe.stages import content_hash, versions

logger = logging.getLogger("presafe")

CARD = "organism.json"


def cached(
    cache: str, kind: str, recipe: Settings, fill: Callable[[str], dict[str, Any]], room: Path = Path(__file__).parent
) -> str:
    """The folder `CACHE/KIND-HASH` of this recipe, filled by `fill(folder)` unless `cache` holds it already.

    It has a card, `organism.json`: the recipe, what `fill` returns, versions and seconds. It appears only once it is
    complete. The hash is of the recipe and of the modules in the folder `room`, whose models these are. Raises
    UserError for a cache that is no local folder.
    """
    if not storage.is_local(cache):
        raise user_error(
            found=f"the model cache {cache}", needed="a local folder", change="use a path without a scheme"
        )
    cache = storage.absolute(cache)
    folder = os.path.join(cache, f"{kind}-{_fingerprint(recipe, room)}")
    if os.path.exists(os.path.join(folder, CARD)):
        logger.info("%s: found in %s", kind, folder)
        return folder
    storage.make_folder(cache)
    partial = tempfile.mkdtemp(prefix=f"{kind}-partial-", dir=cache)
    try:
        begin = time.monotonic()
        figures = fill(partial)
        seconds = round(time.monotonic() - begin, 1)
        card = {"recipe": recipe.model_dump(), **figures, "versions": versions(), "wall_seconds": seconds}
        storage.write_json(os.path.join(partial, CARD), card)
        _publish(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _publish(partial: str, folder: str) -> None:
    """Rename the finished folder to its name; where another process was faster, its equal folder stays."""
    os.chmod(partial, 0o755)
    try:
        os.rename(partial, folder)
    except OSError:
        if not os.path.exists(os.path.join(folder, CARD)):
            raise


def _fingerprint(recipe: Settings, room: Path) -> str:
    """Hash of the recipe and of the room's source, so that a changed world or trainer never meets an old model."""
    source = {file.name: file.read_text() for file in sorted(room.glob("*.py"))}
    return content_hash({"recipe": recipe.model_dump(), "source": source})
