"""Generation as a Ray Data job: tasks in Parquet, completions out, on a pool of actors that may die.

A re-run with the same folder generates only what is missing or failed, and drops what is asked for no more
(`presafe/rowjob.py`). The driver holds no rows: it streams them from and to storage.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from presafe import storage
from presafe.cluster.demand import pool_size
from presafe.config import Decoding, NamedDecoding, Pool
from presafe.config import Engine as EngineSettings
from presafe.conversation import Prefill, Role, Turn, transcript
from presafe.decision.rule import PathTaken
from presafe.engines.engine import Completion, Engine, IsDecided, Query
from presafe.engines.spent import SPENT, SpentReporter
from presafe.engines.start import ModelSpec, start_engine
from presafe.progress import BlockReporter
from presafe.records import CotMode, DecisionMode, FinishReason, Prompt, schema, to_table
from presafe.rowjob import RowJob, run_rows

GENERATIONS = "generations"
"""Folder of a job's rows inside the job's folder."""


@dataclass(frozen=True)
class Task:
    """One completion to generate, of the turn `text` behind the `earlier` ones; `task_id` is unique in its job and the
    key of its checkpoint.

    Under an attack, `attack` names it, `prefill` begins the answer where it does that, and `query` is what was asked
    without it. `decoding` is one of the job's `decodings`, None the one of its CoT mode. `role` is `assistant` where an
    endpoint's guard is to judge `text` as an answer.
    """

    task_id: str
    prompt_id: str
    text: str
    cot: CotMode
    sample: int
    stop_early: bool = False
    earlier: list[Turn] = field(default_factory=list)
    attack: str | None = None
    prefill: Prefill | None = None
    query: str | None = None
    role: Role = "user"
    decoding: str | None = None


@dataclass(frozen=True)
class Generation:
    """One task done. `error` says why a task has no completion; `head_probability` is None without a head.

    `query` is what was asked, as a reader sees it: of several turns the transcript; under an `attack`, what it asks
    for, since that is what a judge has to know. `path` is that of a CoT-ON task of a job with a `decision`.
    """

    task_id: str
    prompt_id: str
    query: str
    cot: CotMode
    sample: int
    reasoning: str
    answer: str
    finish_reason: FinishReason
    num_tokens: int
    head_probability: float | None
    error: str | None
    path: PathTaken | None = None
    attack: str | None = None
    decoding: str | None = None


@dataclass(frozen=True)
class Job:
    """How a generation job runs: model and engine, decoding by CoT mode, the pool, and the block that a crash costs.

    A task that names one of `decodings` is decoded as that says, and decided as that says where the job decides.

    `decided` ends a task that says `stop_early` as soon as its answer is decided. With `decision` its CoT-ON tasks are
    answered as the endpoint answers them; without, completions are the model's own text.
    """

    model: ModelSpec
    engine: EngineSettings
    decoding: dict[CotMode, Decoding]
    workers: Pool
    rows_per_block: int
    seed: int
    decided: IsDecided | None = None
    decision: DecisionMode | None = None
    decodings: Mapping[str, NamedDecoding] = field(default_factory=dict)


def task_id(prompt_id: str, cot: CotMode, sample: int = 0) -> str:
    return f"{prompt_id}-{cot}-{sample}"


def task_of(prompt: Prompt, cot: CotMode, sample: int = 0, *, stop_early: bool = False) -> Task:
    """The task of one sample of a prompt."""
    own = prompt.prompt_id
    return Task(task_id(own, cot, sample), own, prompt.text, cot, sample, stop_early, prompt.earlier)


def run_generation(
    tasks: Iterable[Task], folder: str, job: Job, title: str, start: Callable[[Job, int], Engine] | None = None
) -> str:
    """Generate every task, resuming what an earlier run left in `folder`; returns the folder of Generation rows.

    Tasks that failed there are tried again.

    `start` makes an actor's engine from the job and the number of actors, by default as the job's settings say. The
    order of the rows is the order in which blocks were done. Raises AssertionError where a task is missing or doubled.
    """
    inputs, output = storage.join(folder, "tasks.parquet"), storage.join(folder, GENERATIONS)
    storage.write_rows(inputs, tasks, Task)
    rows = RowJob(
        id_column="task_id",
        columns=schema(Task).names,
        checkpoint=storage.join(folder, "checkpoint"),
        workers=job.workers,
        rows_per_block=job.rows_per_block,
        title=title,
        again=pc.field("error").is_valid(),
        running=(running := storage.join(folder, "running")),
    )
    spent, started = storage.join(folder, SPENT), start or _configured_engine
    return run_rows(inputs, output, rows, Generator, job, pool_size(job.workers), started, running, spent)


def read_generations(folder: str) -> Iterator[Generation]:
    """The rows of a finished job, streamed."""
    return storage.stream_rows(folder, Generation)


class Generator:
    """Actor: starts the engine once, then turns batches of tasks into generations. A bad row never raises."""

    def __init__(
        self, job: Job, num_workers: int, start: Callable[[Job, int], Engine], running: str, spent: str
    ) -> None:
        self._job, self._engine = job, start(job, num_workers)
        self._reporter, self._spent = BlockReporter(running), SpentReporter(spent)

    def __call__(self, batch: pa.Table) -> pa.Table:
        tasks = [Task(**row) for row in batch.select(schema(Task).names).to_pylist()]
        done: list[Generation] = []
        with self._reporter.block():
            for name in (None, *self._job.decodings):
                for cot, decoding in self._job.decoding.items():
                    own = decoding if name is None else self._job.decodings[name].decoding
                    done += self._generate([task for task in tasks if (task.cot, task.decoding) == (cot, name)], own)
        self._spent.write()
        return to_table(done, Generation)

    def _generate(self, tasks: list[Task], decoding: Decoding) -> list[Generation]:
        if not tasks:
            return []
        queries = [
            Query(
                task.text,
                task.cot,
                task.sample,
                task.stop_early,
                self._decision(task),
                task.earlier,
                prefill=task.prefill,
                role=task.role,
            )
            for task in tasks
        ]
        begin = time.monotonic()
        completions = self._engine.generate(queries, decoding, self._job.seed, self._job.decided, self._reporter.call())
        self._spent.add((tasks[0].cot, tasks[0].decoding), completions, time.monotonic() - begin)
        return [_generation(task, completion) for task, completion in zip(tasks, completions, strict=True)]

    def _decision(self, task: Task) -> DecisionMode | None:
        if task.cot == "off" or self._job.decision is None:
            return None
        return self._job.decision if task.decoding is None else self._job.decodings[task.decoding].decision


def _configured_engine(job: Job, num_workers: int) -> Engine:
    return start_engine(
        job.engine,
        job.model,
        on_gpu=job.workers.num_gpus > 0,
        num_workers=num_workers,
        max_new_tokens=max(decoding.max_new_tokens for decoding in job.decoding.values()),
    )


def _generation(task: Task, completion: Completion) -> Generation:
    return Generation(
        task_id=task.task_id,
        prompt_id=task.prompt_id,
        query=task.query or transcript(task),
        cot=task.cot,
        sample=task.sample,
        reasoning=completion.reasoning,
        answer=completion.answer,
        finish_reason=completion.finish_reason,
        num_tokens=completion.num_tokens,
        path=completion.path,
        head_probability=completion.refuse_probability,
        error=completion.error,
        attack=task.attack,
        decoding=task.decoding,
    )
