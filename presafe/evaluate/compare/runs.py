"""Runs as they are compared: what each one measured, of which suites, and how."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from presafe import storage
from presafe.errors import user_error
from presafe.evaluate.by_prompt import Cell, Condition
from presafe.evaluate.measured import Measured, cell_of
from presafe.evaluate.measurements import METRICS
from presafe.evaluate.overlaps import overlapping
from presafe.evaluate.stage import MEASUREMENTS
from presafe.records import Kind
from presafe.stages import RunDirectory
from presafe.standing import CONFIG, no_run
from presafe.suites import suite_prompts

TOLD = ("model", "seed", "judge", "decoding", "decision", "threshold", "versions")
"""Of report.json, what was measured and how."""


@dataclass(frozen=True)
class Run:
    """A run whose stage `evaluate` is done.

    `kinds` are those of its suites, in their order, `labels` what those say of their prompts, `overlapping` suite and
    id of the prompts in no figure of it, `told` what it says of itself.
    """

    name: str
    root: str
    measured: Measured
    kinds: dict[str, Kind]
    labels: dict[str, str]
    overlapping: frozenset[tuple[str, str]]
    told: dict[str, Any]

    @property
    def records(self) -> str:
        return storage.join(self.root, "evaluate", "records.parquet")

    def model(self, name: str) -> str:
        """What a model of the run is called beside those of others."""
        return f"{self.name}: {name}"

    @property
    def arms(self) -> set[tuple[str, str, str]]:
        return {(m.model, m.cot, m.gate) for m in self.measured.measurements}

    @property
    def claimless(self) -> set[tuple[Cell, Condition]]:
        """Cells and arms, the models called as beside others, without a value."""
        found = (m for m in self.measured.measurements if m.too_unscored and m.metric in METRICS)
        return {(cell_of(m, self.labels), Condition(self.model(m.model), m.cot, m.gate)) for m in found}


def read_runs(given: Sequence[str]) -> list[Run]:
    """The runs, each once, in their order; known by their names, or where two have the same by their directories.

    Raises UserError where there are fewer than two, where one is no run, has not finished `evaluate`, or has a suite of
    another kind than one of the same name.
    """
    roots = list(dict.fromkeys(storage.absolute(run).rstrip("/") for run in given))
    if len(roots) < 2:
        raise user_error(
            found=f"one run, {roots[0]}", needed="two or more to compare", change="name another run directory, too"
        )
    directories = [_evaluated(root) for root in roots]
    names = [directory.name for directory in directories]
    runs = [read_run(run, run.root if names.count(run.name) > 1 else run.name) for run in directories]
    kinds_of(runs)
    return runs


def kinds_of(runs: Sequence[Run]) -> dict[str, Kind]:
    """The kinds of all suites. Raises UserError where two runs call suites of two kinds the same."""
    found = dict[str, tuple[Kind, str]]()
    for run in runs:
        for suite, kind in run.kinds.items():
            other, where = found.setdefault(suite, (kind, run.name))
            if other != kind:
                raise user_error(
                    found=f"suite {suite}, which is {other} in {where} and {kind} in {run.name}",
                    needed="one kind of prompts a suite",
                    change="give the suite another name in one of the two, and evaluate that one again",
                )
    return {suite: kind for suite, (kind, _) in found.items()}


def _evaluated(root: str) -> RunDirectory:
    if not storage.exists(storage.join(root, CONFIG)):
        raise no_run(root)
    run = RunDirectory(root)
    run.manifest("evaluate")
    return run


def read_run(run: RunDirectory, name: str) -> Run:
    """A run whose stage `evaluate` is done, to be known as `name`."""
    folder = run.folder("evaluate")
    report = storage.read_json(storage.join(folder, "report.json"))
    return Run(
        name,
        run.root,
        Measured.model_validate(storage.read_json(storage.join(folder, MEASUREMENTS))),
        {prompt.source: prompt.kind for prompt in suite_prompts(run)},
        {suite["name"]: suite["attack"] for suite in storage.read_json(storage.join(run.root, CONFIG))["suites"]},
        overlapping(run),
        {what: report.get(what, "-") for what in TOLD},
    )
