"""What the driver tells every training worker."""

from dataclasses import dataclass

from presafe import storage
from presafe.align.module.collate import Collator
from presafe.config import Align
from presafe.engines.card import Card
from presafe.tracking import Kind


@dataclass(frozen=True)
class TrainTask:
    """The base, the stage's folder with its example files, the settings, the card to complete."""

    base: str
    folder: str
    export_folder: str | None
    """Where the model goes once it is trained; None for nowhere."""
    align: Align
    seed: int
    collator: Collator
    decision_token: int
    card: Card
    run_name: str
    tracker: Kind

    def file(self, name: str) -> str:
        return storage.join(self.folder, name)

    @property
    def checkpoints(self) -> str:
        """Where Ray Train keeps the run of this name."""
        return self.file("checkpoints")
