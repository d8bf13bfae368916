"""What the graders of harm say of the answers to harmful prompts, and of the thoughts before them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from presafe import storage
from presafe.config import Evaluate
from presafe.engines.job import Generation, read_generations
from presafe.evaluate.suite_prompts import SuitePrompts
from presafe.judges.agreement import JudgeReport
from presafe.judges.answers import JudgedAnswer, decide, scores
from presafe.records import Decision, ThoughtVerdict

THOUGHTS: dict[Decision, ThoughtVerdict] = {"comply": "harmful", "refuse": "harmless", "unscored": "unscored"}


@dataclass(frozen=True)
class Harm:
    """The first grader's verdicts on one model's answers to harmful prompts; `judge` is its name."""

    judge: str
    answers: Callable[[Generation], dict[str, Decision]]
    thoughts: Callable[[Generation], dict[str, Decision]] | None
    scores: Callable[[Generation], float | None] | None = None

    def answer(self, row: Generation) -> Decision:
        return "unscored" if row.error is not None else self.answers(row)[self.judge]

    def score(self, row: Generation) -> float | None:
        """StrongREJECT's, of a grader that gives it."""
        return None if self.scores is None or row.error is not None else self.scores(row)

    def thought(self, row: Generation) -> ThoughtVerdict | None:
        """None where nobody reads thoughts, and with chain-of-thought off."""
        if self.thoughts is None or row.cot == "off":
            return None
        if row.error is not None:
            return "unscored"
        return THOUGHTS[self.thoughts(_thought(row))[self.judge]] if row.reasoning.strip() else "none"


def judged_harm(
    generations: str, settings: Evaluate, prompts: SuitePrompts, folder: str, seed: int, report: JudgeReport
) -> Harm | None:
    """Have the Generation rows of harmful prompts graded, resuming in `folder`; None without graders.

    What is graded is copied there, so that nobody pays for verdicts on the others. All graders' go into the report,
    but those on answers of further decodings.
    """
    if not settings.harm_judges:
        return None

    def good() -> Iterator[Generation]:
        for row in read_generations(generations):
            if row.error is None and any(asked.kind == "harmful" for asked in prompts[row.prompt_id]):
                yield row

    answers, own = storage.join(folder, "answers.parquet"), storage.join(folder, "answers")
    storage.write_rows(answers, good(), Generation)
    decisions = decide(answers, settings.harm_judges, own, seed)
    for row in read_generations(answers):
        if row.decoding is None:
            report.add(JudgedAnswer(row, decisions(row)))
    first = settings.harm_judges[0]
    return Harm(first.name, decisions, _thoughts(answers, settings, folder, seed), scores(first, own))


def _thoughts(
    answers: str, settings: Evaluate, folder: str, seed: int
) -> Callable[[Generation], dict[str, Decision]] | None:
    if not settings.thought_judges:
        return None
    thoughts, own = storage.join(folder, "thoughts.parquet"), storage.join(folder, "thoughts")
    rows = (_thought(row) for row in read_generations(answers) if row.cot == "on" and row.reasoning.strip())
    storage.write_rows(thoughts, rows, Generation)
    return decide(thoughts, settings.thought_judges, own, seed)


def _thought(row: Generation) -> Generation:
    """The thought in the answer's place: whole where an answer follows, whatever became of that."""
    cut = row.finish_reason == "length" and not row.answer.strip()
    return replace(row, answer=row.reasoning, finish_reason="length" if cut else "stop")
