"""What the parts of a run tell Prometheus, through Ray's own export of metrics.

The driver tells it, from the thread that shows its progress and as often: Ray forgets a gauge that was not set for two
exports (of 10 s by default), and so a job that has ended. A cluster whose nodes have no agent exports nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import Literal

from ray.util.metrics import Counter, Gauge

from presafe.telemetry.part import PartAtWork

Unit = Literal["rows", "steps"]

PREFIX = "presafe_stage_"
"""Of every name; Ray puts `ray_` in front."""
LABELS = ("run", "stage", "part", "work")
"""`work` is the title of the progress bar: a part may have several, one after the other."""

GAUGES = {
    "rows": "Rows that the job is to have.",
    "rows_done": "Rows that it has by now, those of earlier attempts and failed ones included.",
    "rows_failed": "Rows that it has, with an error in place of a completion.",
    "steps": "Optimizer steps of the training.",
    "steps_done": "The last of them that was reported.",
    "loss": "Loss of the last reported step, as weighted.",
    "loss_finite": "1, or 0 where it is no number or without bounds: Ray then exports no loss at all.",
    "lm_loss": "Its language model part, unweighted.",
    "align_loss": "Its alignment part, unweighted.",
    "anchor_loss": "Its anchor part, unweighted.",
    "grad_norm": "Global L2 norm of its gradient before clipping.",
    "learning_rate": "Learning rate of the step.",
    "tokens_per_second": "Tokens trained on a second, over all ranks, mean of the last steps.",
    "probe_auroc": "AUROC of the refuse probability on validation prompts, at the last look.",
    "probe_refusal": "Share of harmful validation prompts that the greedy first token refuses.",
    "probe_over_refusal": "Share of benign ones.",
    "checkpoint_timestamp_seconds": "When the last checkpoint was committed, or this attempt began; since 1970.",
}
TOKENS = "tokens"
COUNTERS = {TOKENS: "Tokens of the rows made by this driver's job: generated, or read by a classifier judge."}


class WorkMetrics:
    """Metrics of one piece of work, such as a job over rows or a training."""

    def __init__(self, part: PartAtWork, work: str) -> None:
        self._labels = {**asdict(part), "work": work}
        self._tokens = 0.0

    def tell(self, unit: Unit, done: int, total: int, numbers: Mapping[str, float]) -> None:
        """How far it is, and `numbers` by name: those of GAUGES, and the tokens so far."""
        gauges: dict[str, float] = {unit: total, f"{unit}_done": done, **numbers}
        tokens = gauges.pop(TOKENS, 0)
        if "loss" in gauges:
            gauges["loss_finite"] = int(math.isfinite(gauges["loss"]))
        for name, value in gauges.items():
            _gauge(name).set(value, self._labels)
        if tokens > self._tokens:  # a block whose actor died takes its tokens back, which a counter cannot
            _counter(TOKENS).inc(tokens - self._tokens, self._labels)
            self._tokens = tokens


@cache
def _gauge(name: str) -> Gauge:
    return Gauge(PREFIX + name, GAUGES[name], LABELS)


@cache
def _counter(name: str) -> Counter:
    return Counter(f"{PREFIX}{name}_total", COUNTERS[name], LABELS)
