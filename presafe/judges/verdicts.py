"""Verdicts of the judges that run on models: Parquet rows, joined to the answers by task_id."""

import hashlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from presafe import storage
from presafe.records import Decision, FinishReason

SCORED: tuple[Decision, ...] = ("refuse", "comply")
DECISIONS: tuple[Decision, ...] = (*SCORED, "unscored")


@dataclass(frozen=True)
class Verdict:
    """One judge's decision on one task. `num_tokens` counts what the judge's model read or wrote for it."""

    task_id: str
    decision: Decision
    num_tokens: int


class TaskTable:
    """A number of each task by its id: ids as 64 bits of their SHA-256, sorted, and the numbers in an array's typecode.

    Two of 100 million ids share their 64 bits with a probability of 0.0003; that ends in an AssertionError.
    """

    def __init__(self, rows: Iterable[tuple[str, float]], typecode: Literal["B", "f"]) -> None:
        ids, numbers = bytearray(), array(typecode)
        for task_id, number in rows:
            ids += _key(task_id)
            numbers.append(number)  # type: ignore[arg-type]  # of typecode B, which takes whole numbers
        keys = np.frombuffer(ids, dtype=np.uint64)
        order = np.argsort(keys)
        self._keys, self._numbers = keys[order], np.frombuffer(numbers, dtype=typecode)[order]
        assert not (self._keys[1:] == self._keys[:-1]).any(), "a task has two verdicts"

    def get(self, task_id: str) -> float | None:
        """The number of a task; None where it has none."""
        key = np.frombuffer(_key(task_id), dtype=np.uint64)[0]
        place = int(np.searchsorted(self._keys, key))
        if place == len(self._keys) or self._keys[place] != key:
            return None
        return float(self._numbers[place])


class VerdictTable:
    """Decisions by task_id in 9 bytes a row."""

    def __init__(self, folder: str) -> None:
        rows = ((row.task_id, DECISIONS.index(row.decision)) for row in storage.stream_rows(folder, Verdict))
        self._table = TaskTable(rows, "B")

    def __getitem__(self, task_id: str) -> Decision:
        """The verdict on a task; one that the judge never saw is unscored."""
        found = self._table.get(task_id)
        return "unscored" if found is None else DECISIONS[int(found)]


def readable(answer: str, finish_reason: FinishReason, error: str | None) -> bool:
    """Whether there is an answer to judge: a model is never asked about a failed, cut-off or empty one.

    Nor about one whose endpoint has said already what it is.
    """
    return error is None and finish_reason in ("stop", "decided") and bool(answer.strip())


def _key(task_id: str) -> bytes:
    return hashlib.sha256(task_id.encode()).digest()[:8]
