"""Which prompts train, stop, calibrate and report: parts without a cluster of near-duplicates in common."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from presafe.config import Signals
from presafe.conversation import newest_first
from presafe.records import Prompt
from presafe.signals.labels import UNANSWERED, TeacherVerdict
from presafe.signals.loss import Labelled
from presafe.stages import content_hash


class Clustered(Protocol):
    """Has an id and belongs to a cluster."""

    @property
    def prompt_id(self) -> str: ...
    @property
    def cluster(self) -> str: ...


Row = TypeVar("Row", bound=Clustered)


def split_by_cluster(rows: Sequence[Row], share: float) -> tuple[list[Row], list[Row]]:
    """About `share` of the rows, and the others; whole clusters, chosen by content hash, whatever the rows' order."""
    ordered = sorted(rows, key=lambda row: (content_hash(row.cluster), row.prompt_id))
    cut = round(share * len(ordered))
    while 0 < cut < len(ordered) and ordered[cut].cluster == ordered[cut - 1].cluster:
        cut += 1
    return ordered[:cut], ordered[cut:]


def training_parts(
    prompts: Iterable[Prompt], verdicts: dict[str, TeacherVerdict], settings: Signals
) -> tuple[list[Labelled], list[Labelled]]:
    """Rows to train on and rows to stop on: all prompts of the training splits that have a decision."""
    chosen = [
        prompt
        for prompt in prompts
        if prompt.split in settings.splits and verdicts.get(prompt.prompt_id, UNANSWERED).refuse_share is not None
    ]
    stopping, training = split_by_cluster(chosen, settings.stopping_share)
    return labelled(training, verdicts), labelled(stopping, verdicts)


def labelled(prompts: Iterable[Prompt], verdicts: dict[str, TeacherVerdict]) -> list[Labelled]:
    """The prompts that the teacher decided, with their soft labels."""
    rows = []
    for prompt in prompts:
        share = verdicts.get(prompt.prompt_id, UNANSWERED).refuse_share
        if share is not None:
            rows.append(Labelled(prompt.prompt_id, prompt.source, newest_first(prompt), share))
    return rows
