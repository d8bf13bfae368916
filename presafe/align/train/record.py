"""What a run says of itself while it trains: metrics.jsonl, progress.json and the tracker. On rank 0 alone."""

import json
import time
from collections import deque
from collections.abc import Mapping, Sequence

from presafe import storage
from presafe.progress import StepReporter
from presafe.tracking import Log

Row = Mapping[str, float]

RECENT = 20
"""Steps over which the progress line averages its tokens a second."""
TOLD = ("loss", "lm_loss", "align_loss", "anchor_loss", "grad_norm", "learning_rate")
"""What progress.json has of a row for the driver's metrics, beside the speed and the last look at the probe set."""


class RunRecord:
    """Takes each step's row; metrics.jsonl is written anew at most once an `interval` in seconds, and where asked to.

    It holds `history`, the steps before a resume, and the rows since: what a dead attempt left there beyond its
    last checkpoint is gone with the first row.
    """

    def __init__(self, folder: str, steps: int, history: Sequence[Row], log: Log, interval: float = 10.0) -> None:
        self._url, self._log, self._interval, self._next = storage.join(folder, "metrics.jsonl"), log, interval, 0.0
        self._report = StepReporter(storage.join(folder, "progress.json"), steps)
        self._lines = [_line(row) for row in history]
        self._recent = deque[tuple[float, float]](maxlen=RECENT)
        self._probe: dict[str, float] = {}
        self._said: tuple[int, str, Row] = (0, "", {})
        self._committed = time.time()
        for row in history:
            self._remember_probe(row)

    def add(self, row: Row, *, now: bool = False) -> None:
        """The row of a step; `now` writes metrics.jsonl in any case, as before a checkpoint and at the end."""
        self._lines.append(_line(row))
        self._recent.append((row["tokens"], row["seconds"]))
        self._remember_probe(row)
        tokens, seconds = map(sum, zip(*self._recent, strict=True))
        speed = tokens / seconds
        numbers = {name: row[name] for name in TOLD} | self._probe | {"tokens_per_second": speed}
        self._said = int(row["step"]), note({**row, **self._probe}, speed), numbers
        self._tell()
        if now or time.monotonic() >= self._next:
            storage.write_text(self._url, "".join(self._lines))
            self._next = time.monotonic() + self._interval
        self._log({**row, "tokens_per_second": row["tokens"] / row["seconds"]})

    def committed(self) -> None:
        """The checkpoint of the last row's step is committed."""
        self._committed = time.time()
        self._tell(now=True)

    def _tell(self, *, now: bool = False) -> None:
        step, said, numbers = self._said
        self._report(step, said, {**numbers, "checkpoint_timestamp_seconds": self._committed}, now=now)

    def _remember_probe(self, row: Row) -> None:
        if probe := {name: value for name, value in row.items() if name.startswith("probe_")}:
            self._probe = probe


def note(row: Row, tokens_per_second: float) -> str:
    """One line: tokens a second, loss and its parts, gradient norm, and what the last look at the probe set saw."""
    losses = {part: f"{row[f'{part}_loss']:.3f}" for part in ("lm", "align", "anchor")}
    parts = " ".join(f"{part} {value}" for part, value in losses.items() if float(value))
    said = [f"{tokens_per_second:,.0f} tokens/s", f"loss {row['loss']:.3f} ({parts})", f"grad {row['grad_norm']:.2g}"]
    if "probe_auroc" in row:
        said.append(f"AUROC {row['probe_auroc']:.3f}")
    shares = {"harmful": row.get("probe_refusal"), "benign": row.get("probe_over_refusal")}
    if seen := [f"{100 * share:.0f} % of {kind}" for kind, share in shares.items() if share is not None]:
        said.append(f"refuses {', '.join(seen)}")
    return ", ".join(said)


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"
