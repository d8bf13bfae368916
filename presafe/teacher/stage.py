"""Stage `teacher` (paper, Fig. 3, step 1): answers with their decisions, and the model's own CoT-ON traces."""

from collections import Counter
from collections.abc import Collection, Iterator
from functools import partial
from typing import Literal

from presafe import reads, storage
from presafe.cluster.check import check_cluster, packages_of
from presafe.cluster.demand import demand
from presafe.config import Config, PrefixSettings, Teacher
from presafe.engines.exported import check_model
from presafe.engines.fit import check_engine_memory
from presafe.engines.job import GENERATIONS, Job, read_generations, run_generation
from presafe.engines.start import ModelSpec, check_engine
from presafe.judges.agreement import JudgeReport
from presafe.judges.answers import JudgedAnswer, check_judges, judge_answers
from presafe.judges.prefixes import prefix_judge
from presafe.records import TeacherAnswer, Trace
from presafe.runtime import connect, model_folder, resolved
from presafe.stages import Part, Rows, run_stage
from presafe.teacher.ceilings import Answered, Failure, check_answers, check_failures
from presafe.teacher.tasks import answer_tasks, cot_on_tasks, needs_cot_on, training_prompts
from presafe.teacher.traces import REASONS, kept_traces

INPUTS = ("prompts",)


def run_teacher(config: Config, *, redo: Collection[str] = (), force: bool = False) -> None:
    """Run the stage.

    Its output is answers.parquet and answers_cot_on.parquet (TeacherAnswer), traces.parquet (Trace), quarantine/
    and judges.json, which says how far the judges agree.
    """
    run_stage(config.run_directory, "teacher", parts(config), inputs=INPUTS, redo=redo, force=force)


def parts(config: Config) -> list[Part]:
    """Generate all completions, judge them, select the traces to learn from."""
    settings = config.teacher.results()
    judging = {name: settings.pop(name) for name in ("judges", "filtered_prompts")}
    generating = settings | {"decided_by": judging["judges"][0]} if config.teacher.decision_only else settings
    common = {"seed": config.run.seed}
    model = {"model": config.model.results()}
    return [
        Part(
            "generate",
            {"teacher": generating, **model, **common},
            lambda: (
                reads.training_prompts(config)
                | reads.base_model(config)
                | reads.named_model(config, "teacher", config.teacher.model)
            ),
            partial(_generate_all, config),
            ("teacher/answers", "teacher/cot_on", "teacher/quarantine"),
        ),
        Part(
            "judge",
            {"teacher": judging, **common},
            lambda: (
                reads.rows(config, "teacher", f"answers/{GENERATIONS}", f"cot_on/{GENERATIONS}")
                | reads.training_prompts(config)
                | reads.judges(config, config.teacher.judges, config.teacher.human_labels)
            ),
            partial(_judge, config),
            ("teacher/judged", "teacher/answers.parquet", "teacher/answers_cot_on.parquet", "teacher/judges.json"),
        ),
        Part(
            "select",
            {"teacher": judging, **common},
            lambda: (
                reads.rows(config, "teacher", f"cot_on/{GENERATIONS}")
                | reads.training_prompts(config)
                | reads.judges(config, config.teacher.judges, None)
            ),
            partial(_select, config),
            ("teacher/traces.parquet",),
        ),
    ]


def _packages(settings: Teacher) -> list[str]:
    return packages_of(settings.engine, *([settings.trace_engine] if needs_cot_on(settings) else []))


def _generate_all(config: Config, folder: str) -> Rows:
    connect(config.cluster)
    check_cluster(demand("teacher", config.teacher.workers), config.cluster, _packages(config.teacher))
    own = model_folder(config)
    check_model(own, config.model.think)
    teacher = _teacher_model(config, own)
    settings, dtype = config.teacher, config.model.dtype
    check_engine(settings.engine, teacher)
    check_engine_memory("teacher.engine", settings.engine, settings.workers, teacher, dtype, settings.answer)
    if needs_cot_on(settings):
        check_engine(settings.trace_engine, own)
        check_engine_memory("teacher.trace_engine", settings.trace_engine, settings.workers, own, dtype, settings.trace)
    check_judges(config.teacher.judges, config.cluster)
    JudgeReport(config.teacher.judges, config.teacher.human_labels)  # the labels are read before hours of generation
    jobs = {"answers": _generate(config, folder, "answers", teacher)}
    if needs_cot_on(config.teacher):
        jobs["CoT-ON completions"] = _generate(config, folder, "cot_on", own)
    failures = {what: _failures(job) for what, job in jobs.items()}
    every = [failure for failed in failures.values() for failure in failed]
    _write_failures(folder, every)
    for what, job in jobs.items():
        check_failures(failures[what], storage.count_rows(job), config.teacher, what)
    return {"quarantined": len(every)}


def _judge(config: Config, folder: str) -> Rows:
    """The decisions on all answers, and those that the model takes on the validation split with CoT on."""
    connect(config.cluster)
    check_judges(config.teacher.judges, config.cluster)
    rows = _write_answers(config, folder)
    if needs_cot_on(config.teacher):
        validation = {p.prompt_id for p in training_prompts(config) if p.split == "validation"}
        judged = (one for one in _judged(config, folder, "cot_on") if one.generation.prompt_id in validation)
        decisions = storage.join(folder, "answers_cot_on.parquet")
        rows["cot_on_decisions"] = storage.write_rows(decisions, map(_answer, judged), TeacherAnswer)
    return rows


def _select(config: Config, folder: str) -> Rows:
    """Traces of the align split."""
    if not needs_cot_on(config.teacher):
        return {}
    connect(config.cluster)
    dropped = Counter[str]()
    wanted = {p.prompt_id: p.reference for p in training_prompts(config) if p.split == "align"}
    judged = (one for one in _judged(config, folder, "cot_on") if one.generation.prompt_id in wanted)
    references = {i: reference for i, reference in wanted.items() if reference}
    kept = kept_traces(judged, references, dropped)
    traces = storage.write_rows(storage.join(folder, "traces.parquet"), kept, Trace)
    return {"traces": traces, **{f"traces_{reason}": dropped[reason] for reason in REASONS}}


def _judged(config: Config, folder: str, job: Literal["answers", "cot_on"]) -> Iterator[JudgedAnswer]:
    settings = config.teacher
    generations, own = storage.join(folder, job, GENERATIONS), storage.join(folder, "judged", job)
    return judge_answers(generations, settings.judges, own, config.run.seed, settings.filtered_prompts)


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


def _write_answers(config: Config, folder: str) -> Rows:
    settings, counts = config.teacher, Answered()
    report = JudgeReport(settings.judges, settings.human_labels)

    def answers() -> Iterator[TeacherAnswer]:
        for one in _judged(config, folder, "answers"):
            counts.add(one)
            if one.judged:
                report.add(one)
            yield _answer(one)

    total = storage.write_rows(storage.join(folder, "answers.parquet"), answers(), TeacherAnswer)
    storage.write_json(storage.join(folder, "judges.json"), report.as_json())
    check_answers(counts, _failures(storage.join(folder, "answers", GENERATIONS)), settings)
    return {
        "answers": total,
        "refusals": counts.decisions["refuse"],
        "unscored": counts.decisions["unscored"],
        "refused_by_provider": counts.filtered,
        "thinking": counts.thinking,
        "answer_tokens": counts.tokens,
    }


def _answer(one: JudgedAnswer) -> TeacherAnswer:
    row = one.generation
    judge = next(iter(one.decisions)) if one.judged else "provider" if row.finish_reason == "filtered" else "endpoint"
    return TeacherAnswer(row.prompt_id, row.sample, row.answer, row.finish_reason, row.num_tokens, one.decision, judge)
