"""Runs on the prompts that they share: arms of each against the first one's, and p' of all."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from presafe import storage
from presafe.evaluate.by_prompt import ByPrompt, Cell, Condition
from presafe.evaluate.compare.runs import Run, kinds_of
from presafe.evaluate.comparisons import Comparison, Question, answered
from presafe.evaluate.discrimination import Discrimination, discriminate
from presafe.evaluate.measured import counted_verdicts
from presafe.evaluate.table import CONDITIONS, column_title

MODELS = ("aligned", "base")


def compare_two(run: Run, first: Run) -> Iterator[Comparison]:
    """Of each arm a question, the run against the first one, with a comparison a suite that both have.

    A prompt is left out where one of the two did not ask it, has no score of it, or trained on its like.
    """
    by_prompt = _by_prompt((first, run))
    for model, cot, gate in CONDITIONS:
        arms = (Condition(one.model(model), cot, gate) for one in (run, first))
        question = Question(f"{run.name} against {first.name}: {column_title((model, cot, gate))}", *arms)
        yield from answered(
            by_prompt,
            question,
            kinds_of((first, run)),
            first.claimless | run.claimless,
            first.labels | run.labels,
        )


def discriminate_all(runs: Sequence[Run]) -> list[Discrimination]:
    """What p' of each run's models tells apart, on prompts of which all of them have one.

    The differences of areas are to that of the first run's aligned model.
    """
    claimless = set[tuple[Cell, Condition]]().union(*(run.claimless for run in runs))
    labels = {suite: label for run in runs for suite, label in run.labels.items()}
    models = [run.model(model) for model in MODELS for run in runs]
    return list(discriminate(_by_prompt(runs), kinds_of(runs), claimless, labels, models))


def shared_suites(runs: Sequence[Run]) -> list[str]:
    return [suite for suite in runs[0].kinds if all(suite in run.kinds for run in runs)]


def _by_prompt(runs: Sequence[Run]) -> ByPrompt:
    suites = pa.array(shared_suites(runs), pa.string())

    def tables() -> Iterator[pa.Table]:
        for run in runs:
            for table in storage.stream_tables(run.records, [*ByPrompt.COLUMNS], pc.field("suite").isin(suites)):
                models = pc.binary_join_element_wise(run.model(""), table["model"], "")
                yield table.set_column(table.column_names.index("model"), "model", models)

    overlapping = frozenset[tuple[str, str]]().union(*(run.overlapping for run in runs))
    return ByPrompt(tables, counted_verdicts(kinds_of(runs)), overlapping)
