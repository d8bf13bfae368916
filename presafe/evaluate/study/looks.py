"""The finished runs of a study as its arms look at them."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from presafe import storage
from presafe.evaluate.by_prompt import ByPrompt, Condition
from presafe.evaluate.compare.runs import Run, kinds_of, read_run
from presafe.evaluate.measured import counted_verdicts
from presafe.study.plan import Cell, Plan

Key = tuple[str, int | None]
"""A base and a seed of the alignment, None of a run that has none."""


@dataclass(frozen=True)
class Look:
    """A finished run in the mode whose answers count for an arm."""

    arm: str
    cell: Cell
    run: Run
    condition: Condition

    @property
    def key(self) -> Key:
        return self.cell.base, self.cell.seed

    @property
    def as_arm(self) -> Condition:
        """The same, with the arm for a model."""
        return replace(self.condition, model=self.arm)

    @property
    def as_beside(self) -> Condition:
        """The same, with the model as it is called beside those of other runs."""
        return replace(self.condition, model=self.run.model(self.condition.model))


def looks(plan: Plan, done: Collection[Cell]) -> list[Look]:
    """Arm by arm, each at its runs in the order of the plan."""
    runs = {cell.name: read_run(cell.config.run_directory, cell.name) for cell in done}
    return [
        Look(arm.name, cell, runs[cell.name], Condition("aligned" if cell.aligned else "base", arm.cot, arm.gate))
        for arm in plan.study.arms
        for cell in plan.of(arm)
        if cell.name in runs
    ]


def by_arm(found: Sequence[Look]) -> dict[str, list[Look]]:
    """The looks of each arm."""
    arms = dict[str, list[Look]]()
    for look in found:
        arms.setdefault(look.arm, []).append(look)
    return arms


def common(first: Iterable[Key], second: Iterable[Key]) -> set[Key]:
    """The runs of two arms that the other one has, too; one without a seed goes with every run of its base."""
    own, others = {*first}, {*second}

    def has(runs: set[Key], key: Key) -> bool:
        base, seed = key
        return (base, None) in runs or (key in runs if seed is not None else any(base == one for one, _ in runs))

    return {key for key in own | others if has(own, key) and has(others, key)}


def by_prompt(found: Sequence[Look], names: Sequence[str]) -> ByPrompt:
    """The answers of looks, each under its name in `names`; those of one name to a prompt are samples of it."""
    kinds = kinds_of([look.run for look in found])
    overlapping = frozenset[tuple[str, str]]().union(*(look.run.overlapping for look in found))

    def tables() -> Iterator[pa.Table]:
        for look, name in zip(found, names, strict=True):
            yield from _records(look, name)

    return ByPrompt(tables, counted_verdicts(kinds), overlapping)


def _records(look: Look, name: str) -> Iterator[pa.Table]:
    own = look.condition
    where = (pc.field("model") == own.model) & (pc.field("cot") == own.cot) & (pc.field("gate") == own.gate)
    for table in storage.stream_tables(look.run.records, [*ByPrompt.COLUMNS], where):
        yield table.set_column(table.column_names.index("model"), "model", pa.repeat(name, len(table)))
