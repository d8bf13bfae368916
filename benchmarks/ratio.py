"""A ratio of two ways to do the same work: interleaved pairs in one process, median and range, kept as JSON."""

import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAIRS = 5


@dataclass(frozen=True)
class Metric:
    """`value` is the median of the pairs' ratios, `low` and `high` their range."""

    metric: str
    value: float
    low: float
    high: float
    unit: str
    target: str
    peer: str


def cpu_ratio(
    metric: str, ours: Callable[[], None], peer: Callable[[], None], *, target: str, peer_name: str
) -> Metric:
    """CPU seconds of `peer` over CPU seconds of `ours`, after one warm-up each: above 1 is in our favour."""
    ours()
    peer()
    ratios = []
    for _ in range(PAIRS):
        own, other = cpu_seconds(ours), cpu_seconds(peer)
        ratios.append(other / own)
    return median_of(metric, ratios, target, peer_name)


def median_of(metric: str, ratios: Sequence[float], target: str, peer_name: str) -> Metric:
    return Metric(metric, statistics.median(ratios), min(ratios), max(ratios), "ratio", target, peer_name)


def save(name: str, metrics: list[Metric]) -> None:
    """Print the table and write results/NAME.json."""
    for m in metrics:
        print(f"{m.metric:40} {m.value:6.2f}  [{m.low:.2f}, {m.high:.2f}]  target {m.target}  against {m.peer}")
    write_result(RESULTS, name, f"{platform.machine()}, CPU only, one thread", metrics)


def write_result(folder: Path, name: str, machine: str, metrics: Sequence[Metric], **more: Any) -> None:
    """FOLDER/NAME.json, which is whole at any time."""
    result = {
        "name": name,
        "commit": commit(),
        "machine": machine,
        "date": datetime.now(UTC).date().isoformat(),
        "metrics": [asdict(m) for m in metrics],
        **more,
    }
    partial = folder / f"{name}.json.partial"
    partial.write_text(json.dumps(result, indent=2) + "\n")
    partial.replace(folder / f"{name}.json")


def commit(folder: Path = RESULTS) -> str:
    """The short hash of the commit that `folder` belongs to, or that there is none to be read."""
    command = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown: no git, or no history here"
    return found.stdout.strip()


def cpu_seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin
