"""How far judges agree with each other and with humans, counted while answers stream by."""

import itertools
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.metrics import cohen_kappa_score

from presafe.config import Judge
from presafe.judges.answers import JudgedAnswer
from presafe.judges.human import read_human_labels
from presafe.judges.verdicts import DECISIONS, SCORED
from presafe.records import Decision
from presafe.statistics import wilson

logger = logging.getLogger("presafe")

SHOWN = 20
"""Answers named for each pair of judges that part on them."""
BEGINNING = 200
"""Characters shown of such an answer."""


class JudgeReport:
    """Counts verdicts in constant memory: `add` each answer, then read `as_json`."""

    def __init__(self, judges: Sequence[Judge], human_labels: str | None = None) -> None:
        """Raises UserError where the file `human_labels` cannot be used: make the report before the judges run."""
        self._names = [judge.name for judge in judges]
        self._human = read_human_labels(human_labels) if human_labels is not None else None
        self._matched = 0
        self._verdicts: Counter[tuple[str, Decision]] = Counter()
        self._pairs: Counter[tuple[str, str, Decision, Decision]] = Counter()
        self._labelled: Counter[tuple[str, Decision, Decision]] = Counter()
        self._parted: dict[tuple[str, str], list[dict[str, str]]] = {}

    def add(self, row: JudgedAnswer) -> None:
        label = self._human(row.generation) if self._human is not None else None
        self._matched += label is not None
        for name, decision in row.decisions.items():
            self._verdicts[name, decision] += 1
            if label is not None:
                self._labelled[name, label, decision] += 1
        for (a, first), (b, second) in itertools.combinations(row.decisions.items(), 2):
            self._pairs[a, b, first, second] += 1
            parted = self._parted.setdefault((a, b), [])
            if {first, second} == set(SCORED) and len(parted) < SHOWN:
                answer = row.generation.answer[:BEGINNING]
                parted.append({"task_id": row.generation.task_id, a: first, b: second, "answer": answer})

    def as_json(self) -> dict[str, Any]:
        """`judges`: verdicts and unscored share of each, against the human labels where there are any; `pairs`.

        A pair's `matrix` counts answers by the first judge's decision and the second's; `parted` has the first ones on
        which one judge says refuse and the other comply. `human_matrix` counts labelled answers by the human's decision
        and the judge's.
        """
        report: dict[str, Any] = {
            "judges": {name: self._one(name) for name in self._names},
            "pairs": [self._pair(a, b) for a, b in itertools.combinations(self._names, 2)],
        }
        if self._human is not None:
            report["human_labels"] = {"labels": len(self._human), "answers_matched": self._matched}
            if self._matched == 0:
                logger.warning("none of the %d human labels is of an answer of this run", len(self._human))
        return report

    def _one(self, name: str) -> dict[str, Any]:
        one: dict[str, Any] = {decision: self._verdicts[name, decision] for decision in DECISIONS}
        total = sum(one.values())
        one["unscored_share"] = one["unscored"] / total if total else None
        if self._human is not None:
            one["human"] = {decision: self._against_humans(name, decision) for decision in SCORED}
            one["human_matrix"] = {
                label: {decision: self._labelled[name, label, decision] for decision in DECISIONS} for label in SCORED
            }
        return one

    def _against_humans(self, name: str, decision: Decision) -> dict[str, Any]:
        """Precision and recall of `decision`; an answer that the judge left unscored is one that it missed."""
        hits = self._labelled[name, decision, decision]
        said = sum(self._labelled[name, label, decision] for label in SCORED)
        true = sum(self._labelled[name, decision, verdict] for verdict in DECISIONS)
        return {"precision": _share(hits, said), "recall": _share(hits, true)}

    def _pair(self, a: str, b: str) -> dict[str, Any]:
        matrix = {first: {second: self._pairs[a, b, first, second] for second in DECISIONS} for first in DECISIONS}
        return {"judges": [a, b], "matrix": matrix, **agreement(matrix), "parted": self._parted.get((a, b), [])}


def agreement(matrix: Mapping[Decision, Mapping[Decision, int]]) -> dict[str, Any]:
    """Share of equal decisions and Cohen's kappa among the `n` answers that both judges scored.

    Both are None without such an answer; kappa also where both judges gave all of them one and the same decision, since
    chance alone would agree as well.
    """
    cells = [(a, b, matrix[a][b]) for a in SCORED for b in SCORED if matrix[a][b]]
    n = sum(count for _, _, count in cells)
    if n == 0:
        return {"n": 0, "agreement": None, "kappa": None}
    firsts, seconds, counts = (list(column) for column in zip(*cells, strict=True))
    constant = len(set(firsts) | set(seconds)) == 1
    kappa = None if constant else float(cohen_kappa_score(firsts, seconds, sample_weight=counts))
    return {"n": n, "agreement": sum(count for a, b, count in cells if a == b) / n, "kappa": kappa}


def _share(hits: int, n: int) -> dict[str, Any]:
    low, high = wilson(hits, n)
    return {"value": hits / n if n else None, "n": n, "ci_low": low, "ci_high": high}
