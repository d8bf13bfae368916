"""The driver's peak memory and the time of stage `prompts`, by the number of prompts, here and in another checkout.

    python -m benchmarks.prompts_memory --rows 10000 100000 1000000 --peer ../before

Each run is a process of its own, which draws sentences of random words, a tenth of them with a word of an earlier one
changed, writes them as JSONL, runs the stage, and tells its own peak (`ru_maxrss`); what Ray's workers take is not in
it. Results: benchmarks/results/prompts_memory.json.
"""

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.ratio import RESULTS, Metric, write_result

WORDS = [
    f"{a}{b}{c}" for a in ("ba", "de", "ki", "lo", "mu") for b in ("ro", "se", "ti", "va") for c in ("n", "l", "s")
]
LENGTH = 20


def sentences(count: int) -> Iterator[str]:
    rng, recent = random.Random(0), list[list[str]]()
    for number in range(count):
        if number % 10 == 9:
            words = list(rng.choice(recent))
            words[rng.randrange(LENGTH)] = rng.choice(WORDS)
        else:
            words = rng.choices(WORDS, k=LENGTH)
        recent = [*recent[-99:], words]
        yield " ".join(words)


def run_stage(count: int, folder: str) -> None:
    """In a process of its own: print seconds and megabytes."""
    from presafe.config import Config
    from presafe.prompts import run_prompts

    path, suite = Path(folder, "prompts.jsonl"), Path(folder, "suite.jsonl")
    with path.open("w") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in sentences(count))
    suite.write_text("".join(json.dumps({"text": f"{text} of the suite"}) + "\n" for text in sentences(500)))
    suites = [{"name": "suite", "kind": "harmful", "path": str(suite)}]
    prompts = {"sources": [{"name": "drawn", "kind": "benign", "path": str(path)}]}
    values = {"run": {"name": "run", "storage": folder}, "model": {"path": "org/name"}}
    before = "suites" not in Config.model_fields
    values |= {"prompts": prompts | {"suites": suites}} if before else {"prompts": prompts, "suites": suites}
    config = Config.model_validate(values)
    begin = time.monotonic()
    run_prompts(config)
    seconds, peak = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "megabytes": peak}))


def measured(count: int, checkout: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        own = str(Path(__file__).parents[1])
        command = [sys.executable, str(Path(__file__)), "--child", str(count), folder]
        environment = os.environ | {"PYTHONPATH": f"{checkout}:{own}"}
        output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--peer", help="another checkout, measured before this one at each number")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.child:
        run_stage(int(parsed.child[0]), parsed.child[1])
        return
    own = str(Path(__file__).parents[1])
    metrics = []
    for count in parsed.rows:
        for name, checkout in (("before", parsed.peer), ("now", own)):
            if checkout:
                found = measured(count, checkout)
                print(
                    f"{count:>9} prompts, {name:6} {found['seconds']:8.1f} s {found['megabytes']:8.0f} MB", flush=True
                )
                for what, value in found.items():
                    metrics.append(Metric(f"{name}, {count} prompts: {what}", value, value, value, what, "", ""))
    write_result(RESULTS, "prompts_memory", f"{platform.machine()}, {os.cpu_count()} CPUs", metrics)


if __name__ == "__main__":
    main()
