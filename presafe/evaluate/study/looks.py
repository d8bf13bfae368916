"""The finished runs of a study as its arms look at them."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from presafe import storage
from presafe.evaluate.by_prompt import ByPrompt, Condition
from presafe.evaluate.compare.runs import Run, kinds_of, read_run
from presafe.evaluate.measured import counted_verdicts
from presafe.study.plan import Cell, Plan


@dataclass(frozen=True)
class Look:
    """A finished run in the mode whose answers count for an arm."""

    arm: str
    cell: Cell
    run: Run
    condition: Condition

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


def by_prompt(found: Sequence[Look], names: Sequence[str]) -> ByPrompt:
    """The answers of looks at one base, each under its name in `names`."""
    return _read(found, names, [""] * len(found))


def by_prompt_of_bases(found: Sequence[Look]) -> ByPrompt:
    """The answers of looks by arm; those of an arm's runs to a prompt are samples of it.

    A prompt is one of its base: what another base was asked is another one, be it the same text.
    """
    return _read(found, [look.arm for look in found], [f"{look.cell.base}/" for look in found])


def _read(found: Sequence[Look], names: Sequence[str], prefixes: Sequence[str]) -> ByPrompt:
    every = [*zip(found, names, prefixes, strict=True)]
    overlapping = {(suite, before + prompt) for look, _, before in every for suite, prompt in look.run.overlapping}

    def tables() -> Iterator[pa.Table]:
        for one in every:
            yield from _records(*one)

    return ByPrompt(tables, counted_verdicts(kinds_of([look.run for look in found])), overlapping)


def _records(look: Look, name: str, before: str) -> Iterator[pa.Table]:
    own = look.condition
    where = (pc.field("model") == own.model) & (pc.field("cot") == own.cot) & (pc.field("gate") == own.gate)
    for table in storage.stream_tables(look.run.records, [*ByPrompt.COLUMNS], where):
        prompts = pc.binary_join_element_wise(before, table["prompt_id"], "")
        for column, values in (("model", pa.repeat(name, len(table))), ("prompt_id", prompts)):
            table = table.set_column(table.column_names.index(column), column, values)
        yield table
