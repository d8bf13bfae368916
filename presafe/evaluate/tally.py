"""What the report needs of the records, counted while they stream by: memory does not grow with their number."""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from presafe import storage
from presafe.config.attacks import NO_ATTACK
from presafe.decision.rule import Path
from presafe.evaluate.labels import NO_LABELS, Labels, attack_of
from presafe.records import EvalRecord, schema

BINS = 50
"""Of the head's probabilities, from 0 to 1."""
MADE = ("thinks", "overlapping")
"""Of an outcome, what is no column of a record."""
LATER = [schema(EvalRecord).field(name) for name in ("thought_verdict", "harm_score")]
"""Columns that an earlier version's records lack."""


class Outcome(NamedTuple):
    """What one record says, without its texts; `attack` leaves out what its suite says of all its prompts."""

    suite: str
    attack: str
    model: str
    cot: str
    gate: str
    verdict: str
    refused_before_cot: bool
    thinks: bool
    judge: str
    decoding: str
    overlapping: bool
    thought_verdict: str | None
    harm_score: float | None


class Tally:
    """Counts of records, the same whatever their order; `overlapping` are the suite and prompt_id of those in no share.

    `outcomes` counts records by what they say. `head_probabilities` has by suite and model how many of the answers with
    CoT on have p' in each of `BINS` bins. `examples` names by path and suite one prompt, the one with the smallest id,
    on which the aligned model took that path by itself: a refused one, or a problem that it solved by thinking. Both
    are of prompts as their suite has them.
    """

    COLUMNS = ("reasoning", "prompt_id", "head_probability", *(name for name in Outcome._fields if name not in MADE))
    """Of EvalRecord, what is looked at."""

    def __init__(
        self,
        tables: Iterable[pa.Table] = (),
        overlapping: Collection[tuple[str, str]] = frozenset(),
        labels: Labels = NO_LABELS,
    ) -> None:
        self._overlapping, self._labels = keys_of(overlapping), labels
        self.outcomes: Counter[Outcome] = Counter()
        self.head_probabilities: dict[str, dict[str, list[int]]] = {}
        self.examples: dict[Path, dict[str, str]] = {"refuse": {}, "think": {}}
        for table in tables:
            self._add(table)

    def _add(self, table: pa.Table) -> None:
        for field in LATER:
            if field.name not in table.column_names:
                table = table.append_column(field, pa.nulls(len(table), field.type))
        table = table.append_column("thinks", pc.greater(pc.binary_length(table["reasoning"]), 0)).drop(["reasoning"])
        table = table.append_column("overlapping", is_overlapping(table, self._overlapping))
        table = table.drop(["attack"]).append_column("attack", self._attacks(table))
        counts = table.group_by([*Outcome._fields]).aggregate([([], "count_all")])
        for row in counts.to_pylist():
            count = row.pop("count_all")
            self.outcomes[Outcome(**row)] += count
        as_they_are = pc.field("attack") == NO_ATTACK
        without_gate = table.filter(as_they_are & (pc.field("gate") == "off") & (pc.field("cot") == "on"))
        self._add_heads(without_gate)
        self._add_examples(without_gate.filter(pc.field("model") == "aligned"))

    def _attacks(self, table: pa.Table) -> pa.Array:
        both = pc.binary_join_element_wise(table["suite"], table["attack"], "\0").combine_chunks().dictionary_encode()
        pairs = (pair.split("\0") for pair in both.dictionary.to_pylist())
        found = [attack_of(self._labels.get(suite, NO_ATTACK), attack) for suite, attack in pairs]
        return pa.array(found, pa.string()).take(both.indices)

    def _add_heads(self, table: pa.Table) -> None:
        lists = table.group_by(["suite", "model"]).aggregate([("head_probability", "list")])
        for row in lists.to_pylist():
            found, _ = np.histogram(row["head_probability_list"], BINS, (0.0, 1.0))  # of a failed row it is no number
            models = self.head_probabilities.setdefault(row["suite"], {})
            earlier = models.get(row["model"], [0] * BINS)
            models[row["model"]] = [a + int(b) for a, b in zip(earlier, found, strict=True)]

    def _add_examples(self, table: pa.Table) -> None:
        refused = pc.field("refused_before_cot") & (pc.field("verdict") == "refuse")
        solved = pc.field("thinks") & (pc.field("verdict") == "correct")
        wanted: tuple[tuple[Path, pc.Expression], ...] = (("refuse", refused), ("think", solved))
        for path, which in wanted:
            smallest = table.filter(which).group_by("suite").aggregate([("prompt_id", "min")])
            for row in smallest.to_pylist():
                suite, found = row["suite"], row["prompt_id_min"]
                self.examples[path][suite] = min(found, self.examples[path].get(suite, found))


def keys_of(overlapping: Collection[tuple[str, str]]) -> pa.Array:
    """Suites and ids of prompts as `is_overlapping` takes them."""
    return pa.array([f"{suite}\0{prompt_id}" for suite, prompt_id in overlapping], pa.string())


def is_overlapping(table: pa.Table, keys: pa.Array) -> pa.ChunkedArray:
    """Which records are of one of these prompts."""
    return pc.is_in(pc.binary_join_element_wise(table["suite"], table["prompt_id"], "\0"), keys)


def read_tally(url: str, overlapping: Collection[tuple[str, str]] = frozenset(), labels: Labels = NO_LABELS) -> Tally:
    """The tally of a file of EvalRecord rows, read in batches."""
    known = storage.column_names(url)
    return Tally(storage.stream_tables(url, [name for name in Tally.COLUMNS if name in known]), overlapping, labels)
