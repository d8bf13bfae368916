"""The samples that a run's page shows: a few of each cell, spread over its verdicts, the same ones each time."""

import bisect
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from presafe import storage
from presafe.config.attacks import NO_ATTACK
from presafe.conversation import transcript
from presafe.evaluate.by_prompt import Array, coded
from presafe.evaluate.labels import NO_LABELS, Labels, asked, attack_of
from presafe.evaluate.table import column_title
from presafe.evaluate.tally import is_overlapping, keys_of
from presafe.records import Prompt

CELL = ("suite", "attack", "model", "cot", "gate")
CHOSEN_BY = (*CELL, "verdict", "prompt_id", "sample")
SHOWN = (*CHOSEN_BY, "judge", "path", "head_probability", "num_tokens", "truncated", "reasoning", "answer")
"""Columns of EvalRecord, of all records and of those that were chosen."""
MOST = 4_000
"""Samples of a page: of many cells each has fewer, but one."""
LONGEST, IN_ALL = 10_000, 3_000_000
"""Characters of a text, and of all texts of a page."""

_PLACE = np.dtype([("outcome", np.int32), ("rank", np.uint64), ("row", np.int64)])


class Text(NamedTuple):
    """A text, or its beginning and its end with the number of characters that are left out between them."""

    beginning: str
    left_out: int = 0
    end: str = ""

    def within(self, limit: int) -> "Text":
        """The same in at most so many characters, twice as many of its beginning as of its end."""
        kept, last = self.beginning + self.end, limit // 3
        if len(kept) <= limit:
            return self
        return Text(kept[: limit - last], self.left_out + len(kept) - limit, kept[len(kept) - last :])


def read_samples(
    records: str,
    prompts: Iterable[Prompt],
    a_cell: int,
    overlapping: Collection[tuple[str, str]] = frozenset(),
    labels: Labels = NO_LABELS,
) -> dict[str, Any]:
    """What the page's script shows of a file of EvalRecord rows, as JSON; held are the samples that are shown.

    `prompts` are the suites'. There are at most `a_cell` samples, 1 or more, of each suite, attack, model, CoT and gate
    mode, and none of a prompt that is like one that was trained on (`overlapping`). Suites are called as tables call
    them, under an attack with its name; `kinds` has the kind of each.
    `samples` has a list of values a column; `prompt`, `reasoning` and `answer` are places in `texts`, where a text that
    is too long is [beginning, characters left out, end].
    """
    keys = keys_of(overlapping)
    rows = chosen(storage.stream_tables(records, [*CHOSEN_BY]), a_cell, keys)
    found, texts = list[dict[str, Any]](), _Texts()
    for table in _taken(storage.stream_tables(records, [*SHOWN]), rows):
        for row in table.to_pylist():
            row |= {name: texts.place(row[name]) for name in ("reasoning", "answer")}
            found.append(row)
    kinds = _add_prompts(found, prompts, texts)
    order = {suite: k for k, suite in enumerate(kinds)}
    found.sort(key=lambda row: (order[row["suite"]], row["attack"], row["prompt_id"], row["sample"], _arm(row)))
    shown = dict[str, str]()
    for row in found:
        suite = row["suite"]
        row["suite"] = asked(suite, attack_of(labels.get(suite, NO_ATTACK), row["attack"]))
        shown[row["suite"]] = kinds[suite]
        row["arm"] = column_title((row["model"], row["cot"], row["gate"]))
        probability = row["head_probability"]
        row["head_probability"] = round(probability, 4) if np.isfinite(probability) else None
    columns = [name for name in found[0] if name not in ("model", "cot", "gate")] if found else []
    return {
        "kinds": shown,
        "texts": texts.within(IN_ALL),
        "samples": {name: [row[name] for row in found] for name in columns},
    }


def chosen(tables: Iterable[pa.Table], a_cell: int, overlapping: pa.Array) -> Array:
    """Places of the chosen records among all, rising.

    Of a cell's verdicts each gives one in turn while it has any, in the order of a hash of prompt and sample: the same
    prompts in all cells of a suite, as far as their verdicts are the same.
    """
    outcomes, found, waiting, begin = dict[str, int](), np.empty(0, _PLACE), list[Array](), 0
    for table in tables:
        names, codes = coded(table, *CELL, "verdict")
        places = np.empty(len(table), _PLACE)
        places["outcome"] = np.array([outcomes.setdefault(name, len(outcomes)) for name in names], np.int32)[codes]
        places["rank"] = _ranks(table)
        places["row"] = np.arange(begin, begin + len(table))
        begin += len(table)
        waiting.append(places[~is_overlapping(table, overlapping).to_numpy()])
        if sum(map(len, waiting)) > max(len(found), storage.CHUNK):  # seldom: each time all are sorted
            found, waiting = _first_of_each(np.concatenate([found, *waiting]), a_cell), []
    found = _first_of_each(np.concatenate([found, *waiting]), a_cell)
    cells = dict[str, int]()
    of_outcome = [cells.setdefault(name.rpartition("\0")[0], len(cells)) for name in outcomes]
    cell, turn = np.array(of_outcome, np.int32)[found["outcome"]], _turn(found["outcome"], found["rank"])
    count = max(1, min(a_cell, MOST // max(1, len(cells))))
    return np.sort(found["row"][_turn(cell, turn, found["rank"]) < count])


class _Texts:
    """Different texts, each once, in at most `LONGEST` characters."""

    def __init__(self) -> None:
        self._places = dict[Text, int]()

    def place(self, text: str) -> int:
        return self._places.setdefault(Text(text).within(LONGEST), len(self._places))

    def within(self, in_all: int) -> list[str | Text]:
        """All of them in so many characters: the longest ones are cut, to the same length."""
        lengths = np.array([len(text.beginning) + len(text.end) for text in self._places], int)

        def total(limit: int) -> int:
            return int(np.minimum(lengths, limit).sum())

        limit = bisect.bisect(range(LONGEST + 1), in_all, key=total) - 1
        cut = (text.within(limit) for text in self._places)
        return [text if text.left_out else text.beginning for text in cut]


def _ranks(table: pa.Table) -> Array:
    ids = pc.binary_join_element_wise(table["prompt_id"], table["sample"].cast(pa.string()), "\0").to_pylist()
    return np.fromiter(map(storage.short_hash, ids), np.uint64, len(ids))


def _first_of_each(places: Array, count: int) -> Array:
    return places[_turn(places["outcome"], places["rank"]) < count]


def _turn(groups: Array, *keys: Array) -> Array:
    """Of each element, how many of its group come before it by these keys, the first of which counts most."""
    order = np.lexsort((*keys[::-1], groups))
    ordered, turn = groups[order], np.empty(len(order), np.int64)
    turn[order] = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return turn


def _taken(tables: Iterable[pa.Table], rows: Array) -> Iterator[pa.Table]:
    begin = 0
    for table in tables:
        low, high = np.searchsorted(rows, (begin, begin + len(table)))
        yield table.take(rows[low:high] - begin)
        begin += len(table)


def _arm(row: dict[str, Any]) -> tuple[bool, str, bool, str]:
    """By which the arms of a sample are in order: the base before others, CoT on before off, the gate off before on."""
    return row["model"] != "base", row["model"], row["cot"] != "on", row["gate"]


def _add_prompts(found: list[dict[str, Any]], prompts: Iterable[Prompt], texts: _Texts) -> dict[str, str]:
    """Give each row its prompt's text, category and reference; the kind of each suite, in the order of the prompts."""
    kinds, waiting = dict[str, str](), dict[tuple[str, str], list[dict[str, Any]]]()
    for row in found:
        waiting.setdefault((row["suite"], row["prompt_id"]), []).append(row)
    for prompt in prompts:
        kinds.setdefault(prompt.source, prompt.kind)
        told = {"category": prompt.category, "reference": prompt.reference}
        for row in waiting.get((prompt.source, prompt.prompt_id), ()):
            row |= {"prompt": texts.place(transcript(prompt)), **told}
    return kinds
