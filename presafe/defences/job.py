"""A defence as a Ray Data job: conversations in Parquet, scores out, on a pool of actors that may die.

A re-run with the same folder reads only what is missing or could not be read, and drops what is asked for no more
(`presafe/rowjob.py`).
"""

from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.compute as pc

from presafe import storage
from presafe.config.defences import Defence
from presafe.defences.score import DefenceScore, Reader
from presafe.engines.job import Task
from presafe.records import schema, to_table
from presafe.rowjob import RowJob, run_rows

SCORES = "scores"
"""Folder of a defence's rows inside its folder."""


def run_defence(tasks: Iterable[Task], folder: str, settings: Defence, start: Callable[[], Reader]) -> int:
    """Score every task, resuming what an earlier run left in `folder`; how many there are.

    `start` makes an actor's reader. Raises AssertionError where a task is missing or doubled.
    """
    inputs = storage.join(folder, "tasks.parquet")
    count = storage.write_rows(inputs, tasks, Task)
    job = RowJob(
        id_column="task_id",
        columns=schema(Task).names,
        checkpoint=storage.join(folder, "checkpoint"),
        workers=settings.workers,
        rows_per_block=settings.rows_per_block,
        title=f"defence {settings.name}",
        again=pc.field("error").is_valid(),
    )
    run_rows(inputs, storage.join(folder, SCORES), job, Scorer, start)
    return count


class Scorer:
    """Actor: starts the reader once, then turns batches of tasks into scores."""

    def __init__(self, start: Callable[[], Reader]) -> None:
        self._read = start()

    def __call__(self, batch: pa.Table) -> pa.Table:
        tasks = [Task(**row) for row in batch.select(schema(Task).names).to_pylist()]
        found = self._read(tasks) if tasks else []
        rows = [
            DefenceScore(task.task_id, task.prompt_id, task.attack, one.score, one.num_tokens, one.passes, one.error)
            for task, one in zip(tasks, found, strict=True)
        ]
        return to_table(rows, DefenceScore)
