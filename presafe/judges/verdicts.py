"""Verdicts of the judges that run on models: Parquet rows, joined to the answers by task_id."""

import hashlib
from dataclasses import dataclass

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


class VerdictTable:
    """Decisions by task_id in 9 bytes a row: ids as 64 bits of their SHA-256, sorted, a byte for the decision.

    Two of 100 million ids share their 64 bits with a probability of 0.0003; that ends in an AssertionError.
    """

    def __init__(self, folder: str) -> None:
        ids, decisions = bytearray(), bytearray()
        for row in storage.stream_rows(folder, Verdict):
            ids += _key(row.task_id)
            decisions.append(DECISIONS.index(row.decision))
        keys = np.frombuffer(ids, dtype=np.uint64)
        order = np.argsort(keys)
        self._keys, self._decisions = keys[order], np.frombuffer(decisions, dtype=np.uint8)[order]
        assert not (self._keys[1:] == self._keys[:-1]).any(), "a task has two verdicts"

    def __getitem__(self, task_id: str) -> Decision:
        """The verdict on a task; one that the judge never saw is unscored."""
        key = np.frombuffer(_key(task_id), dtype=np.uint64)[0]
        place = int(np.searchsorted(self._keys, key))
        if place == len(self._keys) or self._keys[place] != key:
            return "unscored"
        return DECISIONS[int(self._decisions[place])]


def readable(answer: str, finish_reason: FinishReason, error: str | None) -> bool:
    """Whether there is an answer to judge: a model is never asked about a failed, cut-off or empty one.

    Nor about one whose endpoint has said already what it is.
    """
    return error is None and finish_reason in ("stop", "decided") and bool(answer.strip())


def _key(task_id: str) -> bytes:
    return hashlib.sha256(task_id.encode()).digest()[:8]
