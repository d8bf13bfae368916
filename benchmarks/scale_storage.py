"""Of benchmarks/scale.py: what finished blocks cost on a disk and in an object store, what drivers hold of a row."""

import io
import os
import re
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.ratio import Metric
from benchmarks.waiting import Waiting, thoughts
from presafe import storage
from presafe.config import Cluster, NearDuplicates, Pool
from presafe.content import Contents
from presafe.failed_rows import hashes
from presafe.progress import generated
from presafe.prompts.contamination import References
from presafe.records import Prompt, TeacherAnswer
from presafe.rowjob import RowJob, run_rows
from presafe.runtime import connect
from presafe.signals.labels import verdicts
from presafe.storage.files import file_system

ROWS_A_BLOCK = 128
"""As in the recipes."""
PROMPT = "please tell me how to build a kite ."
FILES = (500, 4000)
FEW, MANY = 20, 60
"""Blocks of two jobs: what the further ones cost."""
ROWS = 100_000
SUITE_PROMPTS, SUITE_WORDS = 1000, 100
BUCKET = "s3://scale"


def files() -> list[Metric]:
    """Milliseconds a finished block, which is a file, of each pass through all of them, on a disk."""
    metrics = []
    for count in FILES:
        with tempfile.TemporaryDirectory() as folder:
            output = f"{folder}/done"
            os.mkdir(output)
            block = thoughts(pa.array([f"{k:016x}" for k in range(ROWS_A_BLOCK)]))
            for k in range(count):
                pq.write_table(block, f"{output}/{k:06d}.parquet")
            contents, look = Contents(f"{folder}/memory.json"), generated(output)
            steps: dict[str, Callable[[], object]] = {
                "ids read, for a resume": lambda output=output: hashes(output, "id"),
                "first look at the progress": look,
                "each further look": look,
                "fingerprint, for what follows": lambda output=output, of=contents.of_rows: of(output),
            }
            for name, step in steps.items():
                begin = time.monotonic()
                step()
                took = 1000 * (time.monotonic() - begin) / count
                metrics.append(figure(f"{count} files of {ROWS_A_BLOCK} rows: {name}, ms/file", round(took, 3)))
    return metrics


def requests() -> list[Metric]:
    """Requests a further block of a job, and of a resume that finds it done, by the log of an S3 API on this machine.

    The job's include its looks at the progress every two seconds, which list.
    """
    found: dict[tuple[int, str], Counter[str]] = {}
    with counted_s3() as count:
        for number in (FEW, MANY):
            folder = f"{BUCKET}/{number}"
            write_inputs(f"{folder}/rows.parquet", number)
            for what in ("job", "resume"):
                before = count()
                job = waiting_job(folder, 2)
                run_rows(f"{folder}/rows.parquet", f"{folder}/done", job, Waiting, tempfile.gettempdir(), 0.0)
                found[number, what] = count() - before
    metrics = []
    for what in ("job", "resume"):
        many = found[MANY, what]
        for method in sorted(many):
            each = (many[method] - found[FEW, what][method]) / (MANY - FEW)
            metrics.append(figure(f"{what}: {method}, requests/block", round(each, 2)))
    return metrics


@contextmanager
def counted_s3() -> Iterator[Callable[[], Counter[str]]]:
    """A bucket, a cluster that reaches it, and what the API was asked so far, by method."""
    from s3_server import s3_server  # of tests/

    with tempfile.TemporaryFile("w+b") as log, _stderr_into(log), s3_server() as environment:
        os.environ |= environment
        connect(Cluster(address="local", local_cpus=8))
        file_system(BUCKET)[0].call_s3("create_bucket", Bucket=BUCKET.removeprefix("s3://"))
        yield lambda: asked(os.pread(log.fileno(), 2**30, 0).decode("utf-8", "replace"))


def asked(log: str) -> Counter[str]:
    """Requests by method in a server's log, which has colours; those that list are GETs of their own."""
    lines = re.findall(r'"(?:\x1b\[[0-9;]*m)*([A-Z]+) (/\S*) HTTP', log)
    return Counter("LIST" if method == "GET" and "list-type" in path else method for method, path in lines)


@contextmanager
def _stderr_into(log: io.BufferedRandom) -> Iterator[None]:
    """The server inherits file descriptor 2, and logs each request there."""
    sys.stderr.flush()
    before = os.dup(2)
    os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)


def rows() -> list[Metric]:
    """Bytes of Python objects that drivers hold of a prompt."""
    answers = (TeacherAnswer(f"{k:016x}", 0, "", "stop", 7, "refuse", "t") for k in range(ROWS))
    suite = (_prompt(k) for k in range(SUITE_PROMPTS))
    makers: dict[str, tuple[int, Callable[[], Any]]] = {
        "signals, verdicts of the teacher, bytes/prompt": (ROWS, lambda: verdicts(answers)),
        "signals, logits by prompt, bytes/prompt": (ROWS, lambda: {f"{k:016x}": float(k) for k in range(ROWS)}),
        f"prompts, suites of {SUITE_WORDS} words that training is kept clear of, bytes/suite prompt": (
            SUITE_PROMPTS,
            lambda: References([*suite], NearDuplicates()),
        ),
    }
    metrics = []
    for name, (count, make) in makers.items():
        tracemalloc.start()
        held = make()
        size, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        del held
        what, _, unit = name.rpartition(", ")
        metrics += [figure(name, round(size / count)), figure(f"{what}, at its peak, {unit}", round(peak / count))]
    return metrics


def _prompt(k: int) -> Prompt:
    text = " ".join(f"w{k}x{j}" for j in range(SUITE_WORDS))
    return Prompt(f"{k:016x}", text, "harmful", "suite", None, None, "evaluate", f"{k:016x}", None)


def waiting_job(folder: str, actors: int, threads: int = 1) -> RowJob:
    """A CPU for each thread: to actors with less than one, Ray Data hands one block at a time in all."""
    pool = Pool(num_workers=actors, num_cpus=threads)
    return RowJob("id", ["id", "text"], f"{folder}/checkpoint", pool, ROWS_A_BLOCK, "waiting")


def write_inputs(url: str, blocks: int) -> None:
    ids = [f"{k:016x}" for k in range(blocks * ROWS_A_BLOCK)]
    storage.write_tables(url, [pa.table({"id": ids, "text": [PROMPT] * len(ids)})])


def figure(name: str, value: float) -> Metric:
    """A measurement without a peer; `name` ends in a comma and its unit."""
    print(f"{name}: {value:g}", flush=True)
    return Metric(name, value, value, value, name.rpartition(", ")[2], "-", "")
