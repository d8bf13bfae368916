"""What all cells of a base read is made once: each has the folders of the stages in front of its alignment."""

from presafe import storage
from presafe.config import Config
from presafe.stages import content_hash
from presafe.study.plan import Cell
from presafe.suites import FOLDER as SUITES

STAGES = ("prompts", "teacher", "signals")
MARKER = "shared.json"
"""Of a cell: which prompts, teacher and signals it has; written once it has them all."""


def share(shared: Config, cell: Cell) -> None:
    """Give a cell what the base's own run has made, where it lacks that or has what was made before.

    Files keep what their parts were made of, so that they are found done. Ready demonstrations of the cell's own are
    not, and what they are like in the suites.
    """
    source, own = shared.run_directory, cell.config.run_directory
    made = {stage: content_hash(source.manifest(stage)) for stage in STAGES}
    marker = storage.join(own.root, MARKER)
    if storage.exists(marker) and storage.read_json(marker) == made:
        return
    storage.remove(marker)
    for folder in (*STAGES, SUITES):
        storage.copy_folder(source.folder(folder), own.folder(folder))
    if cell.gathers:
        for part in ("demonstrations", "overlaps"):
            storage.remove(own.part_file("prompts", part))
        storage.remove(storage.join(own.folder("prompts"), "manifest.json"))
    storage.write_json(marker, made)
