"""Verdicts of all configured judges on the answers of a generation job."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from presafe.config import Judge
from presafe.engines.job import Generation, read_generations
from presafe.judges.prefixes import prefix_judge
from presafe.records import Decision


@dataclass(frozen=True)
class JudgedAnswer:
    """One generation with each judge's verdict by the judge's name, in the order of the config."""

    generation: Generation
    decisions: dict[str, Decision]

    @property
    def decision(self) -> Decision:
        """The first judge's verdict: the others are there to be compared with it."""
        return next(iter(self.decisions.values()))


def judge_answers(generations: str, judges: Sequence[Judge], folder: str, seed: int) -> Iterator[JudgedAnswer]:
    """Stream the Generation rows in `generations`, those with an error left out, with their verdicts.

    Judges that run on models keep their checkpoints and verdicts in `folder`.
    """
    del folder, seed
    readers = {judge.kind: prefix_judge(judge) for judge in judges}
    for row in read_generations(generations):
        if row.error is None:
            yield JudgedAnswer(row, {name: read(row.answer, row.finish_reason) for name, read in readers.items()})
