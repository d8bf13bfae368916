"""What the teacher decided about each prompt: soft labels from its samples."""

from collections.abc import Iterable
from dataclasses import dataclass

from presafe.records import Decision, TeacherAnswer


@dataclass(frozen=True)
class TeacherVerdict:
    """The teacher's samples of one prompt, counted."""

    refused: int
    complied: int
    unscored: int

    @property
    def refuse_share(self) -> float | None:
        """Share of refusals among the scored samples; None where none was scored."""
        scored = self.refused + self.complied
        return self.refused / scored if scored else None

    @property
    def decision(self) -> Decision:
        """Majority of the scored samples; a tie refuses."""
        if self.refuse_share is None:
            return "unscored"
        return "refuse" if self.refuse_share >= 0.5 else "comply"


UNANSWERED = TeacherVerdict(0, 0, 0)


def verdicts(answers: Iterable[TeacherAnswer]) -> dict[str, TeacherVerdict]:
    """The verdict by prompt_id."""
    counts: dict[str, list[int]] = {}
    for answer in answers:
        row = counts.setdefault(answer.prompt_id, [0, 0, 0])
        row[("refuse", "comply", "unscored").index(answer.decision)] += 1
    return {prompt: TeacherVerdict(*row) for prompt, row in counts.items()}
