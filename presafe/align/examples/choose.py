"""Part `examples` of the stage, as Ray tasks: rows into partitions, candidates of each, then the examples in one file.

The driver holds counts alone, whatever the number of rows; a worker holds one partition.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray

from presafe import storage
from presafe.align.examples.candidates import Candidate, Making, Sources, validation_examples
from presafe.align.examples.forms import Forms
from presafe.align.examples.mixture import DEMONSTRATED, weights
from presafe.align.examples.partitions import Partitions
from presafe.align.examples.selection import check, counted, examples
from presafe.config import Align, Config, Model
from presafe.engines.exported import load_tokenizer
from presafe.records import Demonstration, Example, Prompt, Signal, TeacherAnswer, Trace, schema
from presafe.runtime import connect, model_folder, user_errors
from presafe.stages import Rows
from presafe.thinking import ThinkFormat, think_format

SCRATCH = "partitions"
"""Folder of the part, gone once it is done."""
ROWS_AT_ONCE = 256
"""Candidates as Python objects: a chain of thought has thousands of tokens."""
ROW_GROUP = 1024
"""Examples of a row group of the file."""
VALIDATION = pc.field("split") == "validation"


@dataclass(frozen=True)
class Choosing:
    """What the tasks are told: files of the earlier stages, the model's folder and settings, and where they work."""

    files: dict[str, tuple[str, type, Any]]
    base: str
    model: str
    align: Align
    seed: int
    weights: dict[str, float]
    folder: str
    partitions: Partitions

    def file(self, name: str) -> str:
        return storage.join(self.folder, name)

    @property
    def think(self) -> ThinkFormat:
        return _format(self.base, self.model)


@dataclass(frozen=True)
class ExampleCounts:
    """Examples of the validation split; counts of what was left out, by path and of the pool, and by source."""

    validation: int
    skipped: Counter[str]
    counts: Counter[str]
    by_source: Counter[str]


def write_examples(config: Config, folder: str, ready: str | None) -> Rows:
    """Write examples.parquet and validation.parquet; `ready` is the file of ready demonstrations, if any."""
    connect(config.cluster)
    choosing = _choosing(config, folder, ready)
    storage.remove(choosing.partitions.folder)  # of a run that was interrupted
    with user_errors():
        # A worker takes seconds to import all this: one does for few rows.
        found = ray.get(_task(choose).remote(choosing)) if choosing.partitions.count == 1 else _by_tasks(choosing)
    storage.remove(choosing.partitions.folder)
    return {
        "refuse_examples": found.counts["refuse"],
        "think_examples": found.counts["think"],
        "signal_pool": found.counts["pool"],
        "validation": found.validation,
        **{f"{DEMONSTRATED}{name}": count for name, count in sorted(found.by_source.items())},
        **{f"skipped, {reason}": count for reason, count in sorted(found.skipped.items())},
    }


def choose(choosing: Choosing) -> ExampleCounts:
    """All of it, one step after the other."""
    held_out, left_out = validate(choosing)
    for name in choosing.files:
        scatter(choosing, name)
    skipped = sum((make(choosing, part) for part in range(choosing.partitions.count)), left_out)
    return ExampleCounts(held_out, skipped, *collect(choosing))


def _by_tasks(choosing: Choosing) -> ExampleCounts:
    """The same, with a task for each file and each partition."""
    validation = _task(validate).remote(choosing)
    ray.get([_task(scatter).remote(choosing, name) for name in choosing.files])
    parts = [_task(make).remote(choosing, part) for part in range(choosing.partitions.count)]
    skipped = sum(ray.get(parts), Counter[str]())
    counts, by_source = ray.get(_task(collect).remote(choosing))
    held_out, left_out = ray.get(validation)
    return ExampleCounts(held_out, skipped + left_out, counts, by_source)


def scatter(choosing: Choosing, name: str) -> None:
    """The rows of one file into partitions."""
    choosing.partitions.scatter(name, *choosing.files[name])


def make(choosing: Choosing, part: int) -> Counter[str]:
    """The candidates of one partition; counts of what was left out."""
    rows, skipped = choosing.partitions.rows, Counter[str]()
    sources = Sources(
        {row.prompt_id: row for row in rows("answers", part, TeacherAnswer)},
        {row.prompt_id: row for row in rows("traces", part, Trace)},
        {row.prompt_id: row for row in rows("signals", part, Signal)},
    )
    making = Making(choosing.think, choosing.align, choosing.seed, choosing.weights)
    found = making(rows("prompts", part, Prompt), rows("ready", part, Demonstration), sources, skipped)
    storage.write_rows(choosing.partitions.candidates(part), found, Candidate, chunk=ROWS_AT_ONCE)
    return skipped


def collect(choosing: Choosing) -> tuple[Counter[str], Counter[str]]:
    """All candidates that are chosen, in one file; counts by path and of the pool, and of demonstrations by source."""
    align, partitions = choosing.align, choosing.partitions
    counts, by_source = Counter[str](), Counter[str]()

    def candidates() -> Iterator[pa.Table]:
        for part in range(partitions.count):
            for batch in storage.stream_batches(partitions.candidates(part), schema(Candidate).names, None):
                yield pa.Table.from_batches([batch])

    def checked() -> Iterator[pa.Table]:
        yield from counted(examples(candidates, align, choosing.seed), counts, by_source)
        check(counts, align)

    storage.write_tables(choosing.file("examples.parquet"), checked(), schema(Example), ROW_GROUP)
    return counts, by_source


def validate(choosing: Choosing) -> tuple[int, Counter[str]]:
    """The examples of the validation split, in the prompts' order; counts of them, and of what was left out."""
    prompts = [Prompt(**row) for row in storage.stream_dicts(choosing.files["prompts"][0], VALIDATION)]
    ids = {prompt.prompt_id for prompt in prompts}
    found = storage.stream_rows(choosing.files["signals"][0], Signal)
    signals = {row.prompt_id: row for row in found if row.prompt_id in ids}
    skipped = Counter[str]()
    forms = Forms.of(choosing.align, choosing.seed)
    rows = validation_examples(prompts, signals, choosing.think, choosing.align.micro_batch_tokens, skipped, forms)
    count = storage.write_rows(choosing.file("validation.parquet"), rows, Example, chunk=ROWS_AT_ONCE)
    return count, skipped


def _choosing(config: Config, folder: str, ready: str | None) -> Choosing:
    run, seed = config.run_directory, config.align_seed

    def file(stage: str, name: str) -> str:
        return storage.join(run.folder(stage), name)

    files: dict[str, tuple[str, type, Any]] = {
        "prompts": (file("prompts", "prompts.parquet"), Prompt, pc.field("split").isin(["align", "pool"])),
        "answers": (file("teacher", "answers.parquet"), TeacherAnswer, pc.field("sample") == 0),
        "traces": (file("teacher", "traces.parquet"), Trace, None),
        "signals": (file("signals", "signals.parquet"), Signal, None),
    }
    if ready is not None:
        files["ready"] = (ready, Demonstration, None)
    rows = sum(storage.count_rows(files[name][0]) for name in ("prompts", "ready") if name in files)
    return Choosing(
        files=files,
        base=model_folder(config),
        model=config.model.model_dump_json(),
        align=config.align,
        seed=seed,
        weights=weights(config),
        folder=folder,
        partitions=Partitions.of(storage.join(folder, SCRATCH), seed, rows),
    )


def _task(function: Callable[..., Any]) -> Any:
    return ray.remote(num_cpus=1)(function)


@cache
def _format(base: str, model: str) -> ThinkFormat:
    """Once a worker."""
    return think_format(load_tokenizer(base), Model.model_validate_json(model).think)
