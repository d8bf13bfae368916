"""What the driver and a rank hold of the examples: peaks at 1,000,000 rows over those at 10,000.

`python -m benchmarks.align_examples driver|rank ROWS FOLDER` is one process of it, whose peak is looked at.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.ratio import Metric, median_of
from presafe import storage
from presafe.align.examples.choose import write_examples
from presafe.align.module.collate import Collator
from presafe.align.stage import parts
from presafe.align.train.plan import batch_plan
from presafe.align.train.rows import copy_rows, mapped_rows
from presafe.config import Config
from presafe.organism.corpus import Dialogue
from presafe.organism.tokenizer import train_tokenizer
from presafe.records import Prompt, Signal, TeacherAnswer, Trace

PROMPT, THOUGHT = "please tell me how to build a kite .", "the user asks for a kite . " * 8
ANSWER, REFUSAL = "take paper and a line .", "i cannot help with that ."
FEW, MANY = 10_000, 1_000_000
STEPS, RANKS = 50, 8


def examples() -> list[Metric]:
    """Of the driver, from the fingerprints of what it reads to the written file; of a rank's own memory, 50 steps."""
    peaks: dict[str, dict[int, float]] = {"driver": {}, "rank": {}}
    for rows in (FEW, MANY):
        with tempfile.TemporaryDirectory() as folder:
            write_earlier_stages(config(folder), rows)
            for who, found in peaks.items():
                command = [sys.executable, "-m", "benchmarks.align_examples", who, str(rows), folder]
                output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
                said = json.loads(output.splitlines()[-1])
                found[rows] = said["peak_mb"]
                print(f"{who:7} {rows:>9} rows: {said}", flush=True)
    return [
        median_of(f"{who}_memory_1m_over_10k", [found[MANY] / found[FEW]], "<= 1.3", "10,000 rows")
        for who, found in peaks.items()
    ]


def config(folder: str) -> Config:
    return Config.model_validate(
        {
            "run": {"name": "run", "storage": folder},
            "cluster": {"address": "local", "local_cpus": 2},
            "model": {"path": f"{folder}/base", "dtype": "float32"},
            "suites": [{"name": "e", "function": "m:f"}],
            "prompts": {"sources": [{"name": "s", "function": "m:f"}]},
            "align": {"signal_batch_size": 8, "batch_size": 128},
        }
    )


def write_earlier_stages(settings: Config, rows: int) -> None:
    """A third each of harmful and benign prompts and of the signal pool; every benign one has a trace."""
    texts = [Dialogue(PROMPT, THOUGHT, ANSWER), Dialogue(PROMPT, None, REFUSAL)]
    train_tokenizer(texts, 400, "qwen3").save_pretrained(f"{settings.run.storage}/base")
    run = settings.run_directory
    files = {
        ("prompts", "prompts"): (prompts(rows), Prompt),
        ("teacher", "answers"): (answers(rows), TeacherAnswer),
        ("teacher", "traces"): (traces(rows), Trace),
        ("signals", "signals"): ((Signal(name(k), 0.5, "refuse", None, False) for k in range(rows)), Signal),
    }
    for (stage, file), (found, record) in files.items():
        storage.write_rows(f"{run.folder(stage)}/{file}.parquet", found, record)


def name(k: int) -> str:
    return f"{k:016x}"


def prompts(rows: int) -> Iterator[Prompt]:
    for k in range(rows):
        kind, split = (("harmful", "align"), ("benign", "align"), ("benign", "pool"))[k % 3]
        if k < 300:
            split = "validation"
        yield Prompt(name(k), f"{PROMPT} {k}", kind, "s", None, None, split, name(k), None)


def answers(rows: int) -> Iterator[TeacherAnswer]:
    return (TeacherAnswer(name(k), 0, REFUSAL, "stop", 7, "refuse", "t") for k in range(0, rows, 3))


def traces(rows: int) -> Iterator[Trace]:
    return (Trace(name(k), THOUGHT, ANSWER, "stop", 60) for k in range(1, rows, 3))


def driver(folder: str) -> dict[str, float]:
    settings = config(folder)
    part = parts(settings)[0]
    begin = time.monotonic()
    part.reads()
    read = time.monotonic()
    Path(settings.run_directory.folder("align")).mkdir()
    counts = write_examples(settings, settings.run_directory.folder("align"), None)
    assert min(counts[name] for name in ("refuse_examples", "think_examples", "signal_pool")) > 0
    seconds = {"fingerprints_s": round(read - begin, 1), "examples_s": round(time.monotonic() - read, 1)}
    return {"peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1), **seconds}


def rank(folder: str) -> dict[str, float]:
    """Its own memory, without the pages of the mapped file, which the system may take back."""
    settings = config(folder)
    copy_rows(f"{settings.run_directory.folder('align')}/examples.parquet", f"{folder}/copy.arrow")
    rows, begin = mapped_rows(f"{folder}/copy.arrow"), time.monotonic()
    plan = batch_plan(rows, settings.align, 0, Collator(0, (1, 2), 1))
    for step in range(STEPS):
        assert all(rows[i].prompt for batch in plan.microbatches(step, RANKS)[0] for i in batch)
    seconds = round((time.monotonic() - begin) / STEPS, 4)
    own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return {"peak_mb": round(int(own.split()[1]) / 1024, 1), "seconds_a_step": seconds}


if __name__ == "__main__":
    print(json.dumps({"driver": driver, "rank": rank}[sys.argv[1]](sys.argv[3])))
