"""Generation as a Ray Data job: tasks in Parquet, completions out, on a pool of actors that may die.

Rows are checkpointed as their block is written, so a re-run with the same folder generates only what is missing. The
unit of loss is the block: without the repartition, Ray reads small files as a single block and saves nothing before the
end.
"""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data.checkpoint import CheckpointConfig

from presafe import storage
from presafe.config import Decoding, Engine, Workers
from presafe.engines.exported import load_base, load_exported
from presafe.engines.head import load_head
from presafe.engines.transformers_engine import TransformersEngine
from presafe.progress import progress, rows_written
from presafe.records import CotMode, FinishReason, schema, to_table


@dataclass(frozen=True)
class Task:
    """One completion to generate; `task_id` is unique in its job and the key of its checkpoint."""

    task_id: str
    prompt_id: str
    text: str
    cot: CotMode
    sample: int


@dataclass(frozen=True)
class Generation:
    """One task done. `error` says why a task has no completion; `head_probability` is None without a head."""

    task_id: str
    prompt_id: str
    cot: CotMode
    sample: int
    reasoning: str
    answer: str
    finish_reason: FinishReason
    num_tokens: int
    head_probability: float | None
    error: str | None


@dataclass(frozen=True)
class ModelSpec:
    """Which model an actor loads: `base`, or the export in `exported`; `head` adds that export's safety head."""

    base: str
    dtype: str
    exported: str | None = None
    head: str | None = None


@dataclass(frozen=True)
class Job:
    """How a generation job runs: the model, decoding by CoT mode, the pool, and the block that a crash may cost."""

    model: ModelSpec
    engine: Engine
    decoding: dict[CotMode, Decoding]
    workers: Workers
    rows_per_block: int
    seed: int


def task_id(prompt_id: str, cot: CotMode, sample: int = 0) -> str:
    return f"{prompt_id}-{cot}-{sample}"


def run_generation(tasks: list[Task], folder: str, job: Job, title: str) -> list[Generation]:
    """Generate every task into `folder`/generations, resuming what an earlier run left there.

    Returns one Generation a task, sorted by task_id.
    """
    inputs, output = storage.join(folder, "tasks.parquet"), storage.join(folder, "generations")
    storage.write_rows(inputs, sorted(tasks, key=lambda task: task.task_id), Task)
    storage.make_folder(output)
    context = DataContext.get_current()
    context.checkpoint_config = CheckpointConfig(
        id_column="task_id", checkpoint_path=storage.join(folder, "checkpoint"), delete_checkpoint_on_success=False
    )
    try:
        dataset = ray.data.read_parquet(inputs).repartition(target_num_rows_per_block=job.rows_per_block)
        dataset = dataset.map_batches(
            Generator,
            fn_constructor_args=(job,),
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=job.workers.num_workers),
            num_cpus=job.workers.num_cpus,
            num_gpus=job.workers.num_gpus,
        )
        with progress(rows_written(output), len(tasks), title, "rows"):
            dataset.write_parquet(output)
    finally:
        context.checkpoint_config = None
    done = sorted(storage.read_rows(output, Generation), key=lambda row: row.task_id)
    assert [row.task_id for row in done] == sorted(task.task_id for task in tasks), "a task is missing or doubled"
    return done


class Generator:
    """Actor: loads the model once, then turns batches of tasks into generations. A bad row never raises."""

    def __init__(self, job: Job) -> None:
        device = "cuda" if job.workers.num_gpus else "cpu"
        spec = job.model
        loaded = load_exported(spec.exported, device) if spec.exported else load_base(spec.base, spec.dtype, device)
        head = load_head(f"{storage.local_folder(spec.head)}/safety_head.safetensors") if spec.head else None
        self._format, self._job, self._has_head = loaded.format, job, head is not None
        self._engine = TransformersEngine(loaded, head, job.engine.batch_size)

    def __call__(self, batch: pa.Table) -> pa.Table:
        tasks = [Task(**row) for row in batch.select(schema(Task).names).to_pylist()]
        done: list[Generation] = []
        for cot in ("on", "off"):
            done += self._generate([task for task in tasks if task.cot == cot], cot)
        return to_table(done, Generation)

    def _generate(self, tasks: list[Task], cot: CotMode) -> list[Generation]:
        limit = self._job.engine.max_prompt_tokens
        prompts, accepted, done = [], [], []
        for task in tasks:
            ids = self._format.prompt_ids([{"role": "user", "content": task.text}], cot=cot == "on")
            if len(ids) > limit:
                done.append(_failed(task, f"prompt of {len(ids)} tokens; the engine takes {limit}"))
            else:
                prompts.append(ids)
                accepted.append(task)
        if not accepted:
            return done
        completions = self._engine.generate(prompts, self._job.decoding[cot], self._job.seed)
        probabilities: list[Any] = [None] * len(accepted)
        if self._has_head:
            # The head reads the CoT-ON prompt in both modes: its position is defined there alone.
            on = [self._format.prompt_ids([{"role": "user", "content": task.text}]) for task in accepted]
            probabilities = self._engine.refuse_probabilities(on)
        for task, completion, probability in zip(accepted, completions, probabilities, strict=True):
            thought = self._format.split(completion.text, cot=cot == "on")
            done.append(
                Generation(
                    task_id=task.task_id,
                    prompt_id=task.prompt_id,
                    cot=cot,
                    sample=task.sample,
                    reasoning=thought.reasoning,
                    answer=thought.answer,
                    finish_reason=completion.finish_reason if thought.closed else "length",
                    num_tokens=completion.num_tokens,
                    head_probability=probability,
                    error=None,
                )
            )
        return done


def _failed(task: Task, error: str) -> Generation:
    return Generation(task.task_id, task.prompt_id, task.cot, task.sample, "", "", "length", 0, None, error)
