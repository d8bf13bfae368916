"""Stage `teacher` (paper, Fig. 3, step 1): answers with their decisions, and the model's own CoT-ON traces."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Literal

from presafe import storage
from presafe.config import Config, PrefixSettings
from presafe.engines.exported import check_model
from presafe.engines.job import Job, read_generations, run_generation
from presafe.engines.start import ModelSpec, check_engine
from presafe.judges.agreement import JudgeReport
from presafe.judges.answers import JudgedAnswer, check_judges, judge_answers
from presafe.judges.prefixes import prefix_judge
from presafe.records import TeacherAnswer, Trace
from presafe.runtime import connect, demand, model_folder, preflight, resolved
from presafe.stages import Rows, run_stage
from presafe.teacher.ceilings import Answered, Failure, check_answers, check_failures
from presafe.teacher.tasks import answer_tasks, cot_on_tasks, needs_cot_on, training_prompts
from presafe.teacher.traces import REASONS, kept_traces


def run_teacher(config: Config, *, force: bool = False) -> None:
    """Run the stage.

    Its output is answers.parquet and answers_cot_on.parquet (TeacherAnswer), traces.parquet (Trace), quarantine/
    and judges.json, which says how far the judges agree.
    """
    settings = config.stage_settings("teacher")
    body = partial(_teacher, config)
    run_stage(config.run_directory, "teacher", settings, body, inputs=("prompts",), force=force)


def _teacher(config: Config, folder: str) -> Rows:
    connect(config.cluster)
    preflight(demand("teacher", config.teacher.workers))
    own = model_folder(config)
    check_model(own, config.model.think)
    teacher = _teacher_model(config, own)
    check_engine(config.teacher.engine, teacher)
    if needs_cot_on(config.teacher):
        check_engine(config.teacher.trace_engine, own)
    check_judges(config.teacher.judges)
    report = JudgeReport(config.teacher.judges, config.teacher.human_labels)
    job = _generate(config, folder, "answers", teacher)
    failures = _failures(job)
    _write_failures(folder, failures)
    rows = _write_answers(config, folder, job, report, failures)
    if needs_cot_on(config.teacher):
        job = _generate(config, folder, "cot_on", own)
        failed = _failures(job)
        _write_failures(folder, failures + failed)
        rows |= _write_cot_on(config, folder, job, failed)
        failures += failed
    return rows | {"quarantined": len(failures)}


def _failures(job: str) -> list[Failure]:
    return [Failure(row.task_id, row.error) for row in read_generations(job) if row.error]


def _write_failures(folder: str, failures: list[Failure]) -> None:
    quarantine = storage.join(folder, "quarantine")
    storage.remove(quarantine)  # an earlier run's, whose failed tasks were tried again
    if failures:
        storage.write_rows(storage.join(quarantine, "tasks.parquet"), failures, Failure)


def _teacher_model(config: Config, own: str) -> str:
    """The model that answers; an endpoint answers by itself, so its engine never looks at this one."""
    if config.teacher.model is None:
        return own
    teacher = resolved(config.teacher.model)
    check_model(teacher)
    return teacher


def _generate(config: Config, folder: str, part: Literal["answers", "cot_on"], model: str) -> str:
    settings = config.teacher
    answers, decided = part == "answers", None
    if answers and settings.decision_only:
        first = settings.judges[0]
        assert isinstance(first, PrefixSettings), "the config admits no other judge with decision_only"
        decided = prefix_judge(first).decided
    job = Job(
        model=ModelSpec(model, config.model.dtype, think=None if answers and settings.model else config.model.think),
        engine=settings.engine if answers else settings.trace_engine,
        decoding={"off": settings.answer} if answers else {"on": settings.trace},
        workers=settings.workers,
        rows_per_block=settings.rows_per_block,
        seed=config.run.seed,
        decided=decided,
    )
    tasks = answer_tasks(config) if answers else cot_on_tasks(config)
    return run_generation(tasks, storage.join(folder, part), job, f"teacher {part}")


def _write_answers(config: Config, folder: str, job: str, report: JudgeReport, failures: list[Failure]) -> Rows:
    settings, counts = config.teacher, Answered()
    own = storage.join(folder, "answers")
    judged = judge_answers(job, settings.judges, own, config.run.seed, settings.filtered_prompts)

    def answers() -> Iterator[TeacherAnswer]:
        for one in judged:
            counts.add(one)
            if one.judged:
                report.add(one)
            yield _answer(one)

    total = storage.write_rows(storage.join(folder, "answers.parquet"), answers(), TeacherAnswer)
    storage.write_json(storage.join(folder, "judges.json"), report.as_json())
    check_answers(counts, failures, settings)
    return {
        "answers": total,
        "refusals": counts.decisions["refuse"],
        "unscored": counts.decisions["unscored"],
        "refused_by_provider": counts.filtered,
        "thinking": counts.thinking,
        "answer_tokens": counts.tokens,
    }


def _write_cot_on(config: Config, folder: str, job: str, failures: list[Failure]) -> Rows:
    """Traces of the align split, and decisions that the model takes on the validation split with CoT on."""
    dropped, decisions = Counter[str](), list[TeacherAnswer]()
    references = {p.prompt_id: p.reference for p in training_prompts(config) if p.split == "align" and p.reference}
    validation = {p.prompt_id for p in training_prompts(config) if p.split == "validation"}
    own, settings = storage.join(folder, "cot_on"), config.teacher
    judged = judge_answers(job, settings.judges, own, config.run.seed, settings.filtered_prompts)

    def traced() -> Iterator[JudgedAnswer]:
        for one in judged:
            if one.generation.prompt_id in validation:
                decisions.append(_answer(one))
            else:
                yield one

    kept = kept_traces(traced(), references, dropped)
    traces = storage.write_rows(storage.join(folder, "traces.parquet"), kept, Trace)
    storage.write_rows(storage.join(folder, "answers_cot_on.parquet"), decisions, TeacherAnswer)
    check_failures(failures, len(failures) + traces + dropped.total() + len(decisions), settings)
    counts = {f"traces_{reason}": dropped[reason] for reason in REASONS}
    return {"traces": traces, **counts, "cot_on_decisions": len(decisions)}


def _answer(one: JudgedAnswer) -> TeacherAnswer:
    row = one.generation
    judge = next(iter(one.decisions)) if one.judged else "provider" if row.finish_reason == "filtered" else "endpoint"
    return TeacherAnswer(row.prompt_id, row.sample, row.answer, row.finish_reason, row.num_tokens, one.decision, judge)
