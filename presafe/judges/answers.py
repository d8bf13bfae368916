"""Verdicts of all configured judges on the answers of a generation job."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from presafe import storage
from presafe.cluster.check import LOCAL_MODELS, check_cluster, packages_of
from presafe.cluster.demand import demand
from presafe.config import ClassifierSettings, Cluster, Judge, LlmSettings, MajoritySettings, PrefixSettings
from presafe.engines.job import Generation, read_generations
from presafe.judges.classifier import check_classifier, classifier_verdicts
from presafe.judges.llm import check_llm, llm_scores, llm_verdicts
from presafe.judges.prefixes import prefix_judge
from presafe.judges.verdicts import SCORED, VerdictTable
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

    @property
    def judged(self) -> bool:
        """Whether judges have read it, rather than its endpoint said what it is."""
        return self.generation.finish_reason not in ("refused", "filtered")


def check_judges(judges: Sequence[Judge], cluster: Cluster) -> None:
    """Raise UserError where a judge's model, labels or room on the connected cluster are not as configured.

    A stage calls it before it generates, since judging comes after hours of that.
    """
    for judge in judges:
        if isinstance(judge, PrefixSettings | MajoritySettings):
            continue
        asked = demand(f"judge {judge.name}", judge.workers)
        if isinstance(judge, ClassifierSettings):
            check_cluster(asked, cluster, LOCAL_MODELS)
            check_classifier(judge)
        else:
            check_cluster(asked, cluster, packages_of(judge.engine))
            check_llm(judge)


def judge_answers(
    generations: str, judges: Sequence[Judge], folder: str, seed: int, filtered: Decision = "unscored"
) -> Iterator[JudgedAnswer]:
    """Stream the Generation rows in `generations`, those with an error left out, with their verdicts.

    What an endpoint calls a refusal is one; `filtered` is the decision on what a provider's filter stopped.
    Judges that run on models do so before this returns, one after the other, and keep checkpoint and verdicts in
    `folder`/judges/NAME; a re-run resumes there. Memory: 9 bytes a row for each of them, nothing for prefixes.
    """
    decisions = decide(generations, judges, folder, seed, filtered)
    return (JudgedAnswer(row, decisions(row)) for row in read_generations(generations) if row.error is None)


def decide(
    generations: str, judges: Sequence[Judge], folder: str, seed: int, filtered: Decision = "unscored"
) -> Callable[[Generation], dict[str, Decision]]:
    """The same, as what tells all judges' decisions on one of these rows."""
    single = [judge for judge in judges if not isinstance(judge, MajoritySettings)]
    readers = {judge.name: _reader(generations, judge, folder, seed) for judge in single}
    said: dict[str, Decision] = {"refused": "refuse", "filtered": filtered}

    def decisions(row: Generation) -> dict[str, Decision]:
        found = {name: said.get(row.finish_reason) or read(row) for name, read in readers.items()}
        for judge in judges:
            if isinstance(judge, MajoritySettings):
                found[judge.name] = majority([found[name] for name in judge.of])
        return {judge.name: found[judge.name] for judge in judges}

    return decisions


def scores(judge: Judge, folder: str) -> Callable[[Generation], float | None] | None:
    """StrongREJECT's score of an answer that `decide` has had graded in `folder`; None of a judge that gives none."""
    if not isinstance(judge, LlmSettings) or judge.format != "strongreject":
        return None
    table = llm_scores(_folder(judge, folder))
    return lambda row: table.get(row.task_id)


def majority(decisions: Sequence[Decision]) -> Decision:
    """What more than half of the judges say, those that leave an answer unscored among them."""
    for decision in SCORED:
        if 2 * decisions.count(decision) > len(decisions):
            return decision
    return "unscored"


def _reader(
    generations: str, settings: PrefixSettings | ClassifierSettings | LlmSettings, folder: str, seed: int
) -> Callable[[Generation], Decision]:
    if isinstance(settings, PrefixSettings):
        judge = prefix_judge(settings)
        return lambda row: judge(row.answer, row.finish_reason)
    own = _folder(settings, folder)
    if isinstance(settings, LlmSettings):
        verdicts = llm_verdicts(generations, settings, own, seed)
    else:
        verdicts = classifier_verdicts(generations, settings, own)
    table = VerdictTable(verdicts)
    return lambda row: table[row.task_id]


def _folder(judge: Judge, folder: str) -> str:
    return storage.join(folder, "judges", judge.name)
