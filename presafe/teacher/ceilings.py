"""What a teacher may leave unanswered, unscored or thought about, before its decisions are no fair sample any more."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from presafe.config import Teacher
from presafe.engines.job import Generation
from presafe.errors import user_error
from presafe.judges.answers import JudgedAnswer
from presafe.records import Decision


@dataclass(frozen=True)
class Failure:
    """A task without a completion."""

    task_id: str
    reason: str


@dataclass
class Answered:
    """Counts of the answers with CoT off."""

    decisions: Counter[Decision] = field(default_factory=Counter)
    filtered: int = 0
    """Prompts or answers that a provider's filter stopped."""
    thinking: int = 0
    """Answers with a chain-of-thought, which should have none."""
    tokens: int = 0

    def add(self, one: JudgedAnswer) -> None:
        row: Generation = one.generation
        self.decisions[one.decision] += 1
        self.filtered += row.finish_reason == "filtered"
        self.thinking += bool(row.reasoning)
        self.tokens += row.num_tokens

    @property
    def total(self) -> int:
        return self.decisions.total()


def check_answers(answered: Answered, failures: Sequence[Failure], settings: Teacher) -> None:
    """Raise UserError where too many answers think, failed or have no decision.

    What remains would be the answers that were easy to get or to score: no fair sample. Failed ones stay in the
    denominator.
    """
    if answered.thinking > settings.max_thinking_share * answered.total:
        raise user_error(
            found=f"a chain-of-thought in {answered.thinking} of {answered.total} CoT-OFF answers of stage 'teacher'",
            needed=f"at most a share of {settings.max_thinking_share:g} (teacher.max_thinking_share)",
            change="correct the engine's cot_off, or the endpoint's reasoning parser, if it takes answers for thoughts",
        )
    _check(answered.decisions["unscored"], failures, answered.total + len(failures), settings, "answers")


def check_failures(failures: Sequence[Failure], total: int, settings: Teacher, what: str) -> None:
    """Raise UserError where too many of `total` completions failed; one that is cut off is no failure."""
    _check(0, failures, total, settings, what)


def _check(unscored: int, failures: Sequence[Failure], total: int, settings: Teacher, what: str) -> None:
    if len(failures) + unscored <= settings.max_unscored_share * total:
        return
    cure = "mend that and run the same command again: it tries the failed ones again"
    if unscored:
        cure = (
            "raise max_new_tokens, since a cut-off answer is unscored, see what the judge could not read, or raise "
            "the ceiling: the answers are kept"
        )
    first = f" (first: {failures[0].reason})" if failures else ""
    raise user_error(
        found=f"{len(failures)} failed{first} and {unscored} unscored of {total} {what} in stage 'teacher'",
        needed=f"at most a share of {settings.max_unscored_share:g} (teacher.max_unscored_share)",
        change=cure,
    )
