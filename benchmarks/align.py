"""`make bench-align [ONLY=speed,memory,head,workers,growth]`: alignment's speed and memory; a result file a part.

CPU seconds are of one thread, except in `workers`, which needs two free cores and measures wall time.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable

from benchmarks.align_data import BATCH, examples, save_model
from benchmarks.align_examples import examples as examples_held
from benchmarks.align_ours import Ours, process_group, settings
from benchmarks.align_trl import FASTEST, SETTINGS, Trl
from benchmarks.align_workers import two_workers
from benchmarks.ratio import PAIRS, Metric, cpu_seconds, median_of, save
from presafe.config import ReadoutHead

SHORT_STEP = 8
"""Sequences of a step where two settings take turns step by step."""


def speed() -> list[Metric]:
    """Each of TRL's settings once; then the fastest in turns with ours, the head on, an epoch of the same sequences."""
    data = examples(2 * BATCH)
    with tempfile.TemporaryDirectory() as folder:
        base = save_model(folder)
        trainers = {name: Trl(base, data, **changes) for name, changes in SETTINGS.items()}
        tried = {name: 1000 * trl.train() / trl.tokens for name, trl in trainers.items()}
        trl = trainers[min(tried, key=lambda name: tried[name])]
        with process_group():
            ours = Ours.load(base, data, settings())
            ours.train(1)
            ratios = []
            for _ in range(PAIRS):
                own = cpu_seconds(lambda: ours.train(2))
                ratios.append(trl.train() / own)
    unit = "CPU seconds per 1000 target tokens"
    return [
        median_of("trl_over_presafe_cpu_seconds", ratios, ">= 2.5", f"TRL, {min(tried, key=lambda name: tried[name])}"),
        *(Metric(f"TRL, {name}", value, value, value, unit, "-", "-") for name, value in tried.items()),
    ]


def memory() -> list[Metric]:
    """Peaks of fresh processes of two steps each: whole, and less that of one which stops before it loads the model."""
    idle = {who: _peak(who, "imports") for who in ("ours", "trl")}
    ours, trl = [], []
    for _ in range(PAIRS):
        ours.append(_peak("ours", FASTEST))
        trl.append(_peak("trl", FASTEST))
        print(f"peak memory in GB: ours {ours[-1]:.2f}, TRL {trl[-1]:.2f}; imports alone {idle}", flush=True)
    less = [(own - idle["ours"]) / (other - idle["trl"]) for own, other in zip(ours, trl, strict=True)]
    whole = [own / other for own, other in zip(ours, trl, strict=True)]
    return [
        median_of("presafe_over_trl_peak_memory", whole, "<= 0.5", f"TRL, {FASTEST}"),
        median_of("presafe_over_trl_peak_memory_less_imports", less, "<= 0.5", f"TRL, {FASTEST}"),
    ]


def _peak(who: str, setting: str) -> float:
    command = [sys.executable, "-m", "benchmarks.align_peak", who, setting]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return float(json.loads(output.splitlines()[-1])["peak_gb"])


def head() -> list[Metric]:
    """Steps of one setting over the same steps of another, which take turns; the head alone has a target."""
    readout = {"head": ReadoutHead(kind="readout"), "signal_batch_size": SHORT_STEP}
    sft = {"objective": "sft"}
    with process_group():
        return [
            _turns("presafe_over_sft_cpu_seconds", {}, sft, "<= 1.02", pairs=16),
            _turns("readout_and_pool_over_sft_cpu_seconds", readout, sft, "-", pool=4 * SHORT_STEP),
            _turns("checkpointing_over_none_cpu_seconds", {"gradient_checkpointing": True}, {}, "-"),
        ]


def _turns(
    name: str,
    changes: dict[str, object],
    than: dict[str, object],
    target: str,
    *,
    pairs: int = 2 * PAIRS,
    pool: int = 0,
) -> Metric:
    data = examples(4 * SHORT_STEP)
    with tempfile.TemporaryDirectory() as folder:
        base = save_model(folder)
        more = data + examples(0, pool=pool, seed=1)
        one = Ours.load(base, more, settings(batch_size=SHORT_STEP, **changes))
        other = Ours.load(base, data, settings(batch_size=SHORT_STEP, **than))
        one.train(1), other.train(1)
        ratios = []
        for pair in range(pairs):
            order = (one, other) if pair % 2 else (other, one)
            seconds = {engine: cpu_seconds(lambda engine=engine: engine.train(1)) for engine in order}
            ratios.append(seconds[one] / seconds[other])
    return median_of(name, ratios, target, " ".join(f"{k}={v}" for k, v in than.items()) or "objective=presafe")


def growth() -> list[Metric]:
    """CPU seconds a token of a step of 128 sequences over those of one of 4: the same 4, 32 times."""
    few = examples(4)
    with tempfile.TemporaryDirectory() as folder, process_group():
        base = save_model(folder)
        small = Ours.load(base, few, settings(batch_size=4))
        large = Ours.load(base, few * 32, settings(batch_size=128))
        small.train(1)
        ratios = []
        for _ in range(PAIRS):
            once = cpu_seconds(lambda: small.train(4)) / 4
            ratios.append(cpu_seconds(lambda: large.train(1)) / (32 * once))
    return [median_of("cost_growth_32x", ratios, "<= 1.1", "a step of 4 sequences")]


PARTS: dict[str, Callable[[], list[Metric]]] = {
    "speed": speed,
    "memory": memory,
    "head": head,
    "workers": two_workers,
    "growth": growth,
    "examples": examples_held,
}


def main() -> None:
    parts = sys.argv[1].split(",") if len(sys.argv) > 1 else list(PARTS)
    if len(parts) == 1:
        save(f"align_{parts[0]}", PARTS[parts[0]]())
        return
    for part in parts:  # DeepSpeed knows one process group a process
        subprocess.run([sys.executable, "-m", "benchmarks.align", part], check=True)


if __name__ == "__main__":
    main()
