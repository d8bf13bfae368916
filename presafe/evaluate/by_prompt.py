"""What the records say of each prompt under each condition: 70 bytes a prompt, however many records there are."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from presafe import storage
from presafe.config.attacks import NO_ATTACK
from presafe.defences.arms import Arm
from presafe.evaluate.labels import NO_LABELS, Labels, attack_of
from presafe.evaluate.tally import is_overlapping, keys_of
from presafe.statistics.paired import Pairs

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Condition:
    """An arm of the evaluation."""

    model: str
    cot: str
    gate: str


class Cell(NamedTuple):
    """The prompts of a suite under one attack, as records name it (labels.py)."""

    suite: str
    attack: str


class Answers(NamedTuple):
    """Of each prompt [n], how many of its answers were scored, and how many of those its suite's metric counts."""

    hits: Array
    scored: Array


class ByPrompt:
    """Records by prompt, the same whatever their order; n are the prompts of every suite and attack.

    `cell` [n] is a place in `cells`, `prompt` [n] the same number for the same prompt wherever it is asked. `answers`
    are by condition. With CoT on, `probability` [n] is p' by model, NaN where a record has none, and `gated` [n] says
    what the gate refuses; those in `arms`, which read the prompt alone, have their own scores there. `samples` has by
    suite the most answers to a prompt under one condition. Prompts that are like one that was trained on are left out.
    """

    COLUMNS = ("suite", "attack", "prompt_id", "model", "cot", "gate", "sample", "verdict", "judge", "head_probability")
    """Of EvalRecord, what is looked at."""

    def __init__(
        self,
        tables: Callable[[], Iterable[pa.Table]],
        counted: Mapping[str, str],
        overlapping: Collection[tuple[str, str]] = frozenset(),
    ) -> None:
        """`tables` gives the records, which are read twice; `counted` the verdict that each suite's metric counts."""
        self._counted, self._overlapping = counted, keys_of(overlapping)
        self._keys = self._all_keys(tables())
        self.cells: list[Cell] = []
        self.cell = np.zeros(len(self._keys), np.int32)
        self.prompt = np.zeros(len(self._keys), np.uint64)
        self.answers: dict[Condition, Answers] = {}
        self.probability: dict[str, Array] = {}
        self.gated: dict[str, Array] = {}
        self.arms: dict[str, Arm] = {}
        self.samples = Counter[str]()
        for table in tables():
            self._add(self._without_overlaps(table))

    def add(self, arm: Arm, labels: Labels = NO_LABELS) -> None:
        """Beside the models, what refuses prompts by scores of its own."""
        found = np.full(len(self._keys), np.nan)
        for k, cell in enumerate(self.cells):
            scores = arm.scores.get(attack_of(labels.get(cell.suite, NO_ATTACK), cell.attack))
            if scores is not None:
                found[self.cell == k] = scores.of(self.prompt[self.cell == k])
        self.arms[arm.name], self.probability[arm.name] = arm, found
        if arm.threshold is not None:
            self.gated[arm.name] = found >= arm.threshold

    def pairs(self, cell: Cell, first: Condition, second: Condition) -> tuple[Pairs, int]:
        """Shares that count of the cell's prompts in two conditions; and how many prompts lack a score in one."""
        where = self.cell == self.cells.index(cell)
        one, other = self.answers[first], self.answers[second]
        counts = np.stack([*one, *other], axis=1)[where]
        both = counts[(counts[:, 1] > 0) & (counts[:, 3] > 0)]
        found, prompts = np.unique(both, axis=0, return_counts=True)
        pairs = Pairs(found[:, 0] / found[:, 1], found[:, 2] / found[:, 3], prompts)
        return pairs, int(where.sum()) - len(both)

    def answers_of(self, cell: Cell, condition: Condition) -> Answers:
        """Those of the cell's prompts; of none where all of them are left out."""
        where = self.cell == (self.cells.index(cell) if cell in self.cells else -1)
        hits, scored = self.answers.get(condition, self._no_answers())
        return Answers(hits[where], scored[where])

    def prompts_of(self, cell: Cell) -> Array:
        """The cell's prompts, in the order of their answers."""
        found: Array = self.prompt[self.cell == (self.cells.index(cell) if cell in self.cells else -1)]
        return found

    def _all_keys(self, tables: Iterable[pa.Table]) -> Array:
        """Sorted, of one number a prompt of a cell."""
        found, waiting = np.empty(0, np.uint64), [np.empty(0, np.uint64)]
        for table in tables:
            waiting.append(_hashed(self._without_overlaps(table), "suite", "attack", "prompt_id")[0])
            if sum(map(len, waiting)) > max(len(found), storage.CHUNK):  # seldom: each time all are sorted
                found, waiting = np.unique(np.concatenate([found, *waiting])), []
        return np.unique(np.concatenate([found, *waiting]))

    def _without_overlaps(self, table: pa.Table) -> pa.Table:
        return table.filter(pc.invert(is_overlapping(table, self._overlapping)))

    def _add(self, table: pa.Table) -> None:
        keys, codes = _hashed(table, "suite", "attack", "prompt_id")
        rows = np.searchsorted(self._keys, keys)[codes]
        self._add_cells(table, rows)
        verdicts = table["verdict"].to_numpy()
        suites, of_suite = coded(table, "suite")
        for row in table.group_by("suite").aggregate([("sample", "max")]).to_pylist():
            self.samples[row["suite"]] = max(self.samples[row["suite"]], row["sample_max"] + 1)
        hits = verdicts == np.array([self._counted[suite] for suite in suites], object)[of_suite]
        by_gate = table["judge"].to_numpy() == "gate"
        probabilities = table["head_probability"].to_numpy()
        conditions, of_condition = coded(table, "model", "cot", "gate")
        for k, names in enumerate(conditions):
            condition, where = Condition(*names.split("\0")), of_condition == k
            answers = self.answers.setdefault(condition, self._no_answers())
            np.add.at(answers.hits, rows[where & hits], 1)
            np.add.at(answers.scored, rows[where & (verdicts != "unscored")], 1)
            if (condition.cot, condition.gate) == ("on", "off"):
                found = self.probability.setdefault(condition.model, np.full(len(self._keys), np.nan))
                np.fmax.at(found, rows[where], probabilities[where])  # those of several samples differ by rounding
            elif condition.cot == "on":
                refused = self.gated.setdefault(condition.model, np.zeros(len(self._keys), bool))
                refused[rows[where & by_gate]] = True

    def _add_cells(self, table: pa.Table, rows: Array) -> None:
        names, codes = coded(table, "suite", "attack")
        cells = [Cell(*name.split("\0")) for name in names]
        self.cells += [cell for cell in cells if cell not in self.cells]
        self.cell[rows] = np.array([self.cells.index(cell) for cell in cells], np.int32)[codes]
        prompts, of_prompt = _hashed(table, "prompt_id")
        self.prompt[rows] = prompts[of_prompt]

    def _no_answers(self) -> Answers:
        return Answers(np.zeros(len(self._keys), np.uint16), np.zeros(len(self._keys), np.uint16))


def read_by_prompt(
    url: str, counted: Mapping[str, str], overlapping: Collection[tuple[str, str]] = frozenset()
) -> ByPrompt:
    """A file of EvalRecord rows by prompt, read in batches."""
    return ByPrompt(lambda: storage.stream_tables(url, [*ByPrompt.COLUMNS]), counted, overlapping)


def coded(table: pa.Table, *columns: str) -> tuple[list[str], Array]:
    """The different values of columns, joined by NUL, and which of them each row has."""
    joined = pc.binary_join_element_wise(*(table[column] for column in columns), "\0")
    encoded = joined.combine_chunks().dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()


def _hashed(table: pa.Table, *columns: str) -> tuple[Array, Array]:
    """The same, each value as 64 bits of a hash."""
    values, codes = coded(table, *columns)
    return np.fromiter(map(storage.short_hash, values), np.uint64, len(values)), codes
