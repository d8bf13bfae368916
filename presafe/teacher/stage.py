"""Stage `teacher` (paper, Fig. 3, step 1): answers with their decisions, and traces of benign and reasoning prompts."""

import random
from collections import Counter
from dataclasses import dataclass
from functools import partial

from presafe import storage
from presafe.config import Config
from presafe.engines.exported import check_model
from presafe.engines.job import Generation, Job, ModelSpec, Task, run_generation, task_id
from presafe.errors import user_error
from presafe.judges import PrefixJudge, prefix_judge
from presafe.records import Prompt, TeacherAnswer, Trace
from presafe.runtime import connect, demand, model_folder, preflight
from presafe.stages import Rows, run_stage


@dataclass(frozen=True)
class Failure:
    """A task without a completion."""

    task_id: str
    reason: str


def run_teacher(config: Config, *, force: bool = False) -> None:
    """Run the stage; its output is answers.parquet (TeacherAnswer), traces.parquet (Trace) and quarantine/."""
    settings = config.stage_settings("teacher")
    body = partial(_teacher, config)
    run_stage(config.run_directory, "teacher", settings, body, inputs=("prompts",), force=force)


def _teacher(config: Config, folder: str) -> Rows:
    teacher = config.teacher
    connect(config.cluster)
    preflight(demand("teacher", config.teacher.workers))
    model = model_folder(config)
    check_model(model)
    job = Job(
        model=ModelSpec(model, config.model.dtype),
        engine=teacher.engine,
        decoding={"off": teacher.answer, "on": teacher.trace},
        workers=teacher.workers,
        rows_per_block=teacher.rows_per_block,
        seed=config.run.seed,
    )
    done = run_generation(_tasks(config), folder, job, "teacher")
    failures = [Failure(row.task_id, row.error) for row in done if row.error is not None]
    judge = prefix_judge(teacher.judges[0])
    answers = [_answer(row, judge) for row in done if row.cot == "off" and row.error is None]
    traced = [row for row in done if row.cot == "on" and row.error is None]
    verdicts = Counter[str](judge(row.answer, row.finish_reason) for row in traced)
    traces = [_trace(row) for row in traced if judge(row.answer, row.finish_reason) == "comply"]
    unscored = sum(answer.decision == "unscored" for answer in answers)
    if unscored > teacher.max_unscored_share * len(answers):
        raise user_error(
            found=f"{unscored} unscored of {len(answers)} CoT-OFF answers",
            needed=f"at most a share of {teacher.max_unscored_share:g}",
            change="raise teacher.answer.max_new_tokens, since a cut-off answer is unscored",
        )
    if failures:
        storage.write_rows(storage.join(folder, "quarantine", "tasks.parquet"), failures, Failure)
    storage.write_rows(storage.join(folder, "answers.parquet"), answers, TeacherAnswer)
    storage.write_rows(storage.join(folder, "traces.parquet"), traces, Trace)
    return {
        "answers": len(answers),
        "refusals": sum(answer.decision == "refuse" for answer in answers),
        "unscored": unscored,
        "traces": len(traces),
        "traces_refused": verdicts["refuse"],
        "traces_unscored": verdicts["unscored"],
        "quarantined": len(failures),
    }


def _tasks(config: Config) -> list[Task]:
    path = storage.join(config.run_directory.folder("prompts"), "prompts.parquet")
    prompts = [prompt for prompt in storage.read_rows(path, Prompt) if prompt.split != "evaluate"]
    off = [Task(task_id(p.prompt_id, "off"), p.prompt_id, p.text, "off", 0) for p in prompts]
    traced = [p for p in prompts if p.split == "align" and p.kind != "harmful"]
    random.Random(config.run.seed).shuffle(traced)
    traced = traced[: config.teacher.max_traces]
    return off + [Task(task_id(p.prompt_id, "on"), p.prompt_id, p.text, "on", 0) for p in traced]


def _answer(row: Generation, judge: PrefixJudge) -> TeacherAnswer:
    decision = judge(row.answer, row.finish_reason)
    return TeacherAnswer(row.prompt_id, row.sample, row.answer, row.finish_reason, row.num_tokens, decision, judge.name)


def _trace(row: Generation) -> Trace:
    return Trace(row.prompt_id, row.reasoning, row.answer, row.finish_reason, row.num_tokens)
