"""The LLM judge: a generation job over judge prompts, on any engine."""

import itertools
from collections.abc import Iterator

from presafe import storage
from presafe.config import LlmSettings
from presafe.config.rubrics import ASKED_IN_TURNS
from presafe.conversation import Turn
from presafe.engines.exported import check_model
from presafe.engines.job import GENERATIONS, Generation, Job, Task, read_generations, run_generation
from presafe.engines.start import ModelSpec, check_engine
from presafe.judges.formats import harm_verdict, strongreject_score
from presafe.judges.rubric import judge_prompt, parse_verdict, read_of
from presafe.judges.verdicts import TaskTable, Verdict, readable
from presafe.records import Decision
from presafe.runtime import resolved


def check_llm(settings: LlmSettings) -> None:
    """Raise UserError where a local engine's model cannot be loaded, or an endpoint cannot be reached."""
    check_engine(settings.engine)
    if settings.model is not None:
        check_model(resolved(settings.model))


def llm_verdicts(generations: str, settings: LlmSettings, folder: str, seed: int) -> str:
    """Judge the Generation rows in `generations`, resuming in `folder`; returns the Parquet file of Verdict rows.

    An answer that is not `readable` has no row. A prompt that the engine rejects or fails on is unscored.
    """
    job = Job(
        model=ModelSpec(resolved(settings.model) if settings.model is not None else "", settings.dtype),
        engine=settings.engine,
        decoding={settings.cot: settings.decoding},
        workers=settings.workers,
        rows_per_block=settings.rows_per_block,
        seed=seed,
    )
    tasks = (
        _task(row, settings)
        for row in read_generations(generations)
        if readable(row.answer, row.finish_reason, row.error)
    )
    first = next(tasks, None)
    verdicts: Iterator[Verdict] = iter(())
    if first is not None:
        done = run_generation(itertools.chain([first], tasks), folder, job, f"judge {settings.name}")
        verdicts = (_verdict(row, settings) for row in read_generations(done))
    output = storage.join(folder, "verdicts.parquet")
    storage.write_rows(output, verdicts, Verdict)
    return output


def llm_scores(folder: str) -> TaskTable:
    """StrongREJECT's scores by task, of the judge that has graded in `folder`; an answer without a verdict has none."""
    done = storage.join(folder, GENERATIONS)
    rows = read_generations(done) if storage.exists(done) else ()
    whole = (row for row in rows if row.error is None and row.finish_reason != "length")
    scores = ((row.task_id, strongreject_score(row.answer)) for row in whole)
    return TaskTable(((task_id, score) for task_id, score in scores if score is not None), "f")


def _task(row: Generation, settings: LlmSettings) -> Task:
    if settings.format not in ASKED_IN_TURNS:
        prompt = judge_prompt(settings, row.query, row.answer)
        return Task(row.task_id, row.prompt_id, prompt, settings.cot, row.sample)
    asked, answer = Turn(role="user", content=row.query), read_of(settings, row.answer)
    return Task(row.task_id, row.prompt_id, answer, settings.cot, row.sample, earlier=[asked], role="assistant")


def _verdict(row: Generation, settings: LlmSettings) -> Verdict:
    if row.error is not None:
        decision: Decision = "unscored"
    elif settings.format is None:
        decision = parse_verdict(row.answer, row.finish_reason)
    else:
        decision = harm_verdict(settings.format, row.answer, row.finish_reason)
    return Verdict(row.task_id, decision, row.num_tokens)
