"""Stage `evaluate`: `records.parquet` with every answer and verdict, `report.json`, `report.md` and `report.html`."""

from functools import partial

from presafe import storage
from presafe.config import Config
from presafe.engines.card import read_card
from presafe.engines.job import Job, Task, read_generations, run_generation, task_id
from presafe.engines.start import ModelSpec
from presafe.evaluate.measurements import Measurement, measure
from presafe.evaluate.report import write_report
from presafe.evaluate.verdicts import eval_records
from presafe.judges.agreement import JudgeReport
from presafe.judges.answers import check_judges, judge_answers
from presafe.records import Decision, EvalRecord, Prompt
from presafe.runtime import connect, demand, model_folder, preflight
from presafe.stages import Rows, run_stage

MODELS = ("base", "aligned")


def run_evaluate(config: Config, *, force: bool = False) -> None:
    """Run the stage on the model that stage `align` exported."""
    run_stage(
        config.run_directory,
        "evaluate",
        config.stage_settings("evaluate"),
        partial(_evaluate, config),
        inputs=("prompts", "align"),
        force=force,
    )


def read_measurements(config: Config) -> list[Measurement]:
    """The measurements of a finished stage, as the report has them."""
    report = storage.read_json(storage.join(config.run_directory.folder("evaluate"), "report.json"))
    return [Measurement.model_validate(row) for row in report["measurements"]]


def _evaluate(config: Config, folder: str) -> Rows:
    connect(config.cluster)
    preflight(demand("evaluate", config.evaluate.workers))
    check_judges(config.evaluate.judges)
    reports = {model: JudgeReport(config.evaluate.judges, config.evaluate.human_labels) for model in MODELS}
    run = config.run_directory
    prompt_file = storage.join(run.folder("prompts"), "prompts.parquet")
    prompts = [prompt for prompt in storage.read_rows(prompt_file, Prompt) if prompt.split == "evaluate"]
    card = read_card(run.folder("model"))
    records: list[EvalRecord] = []
    for model in MODELS:
        done = _generate(config, model, prompts, storage.join(folder, model))
        records += eval_records(
            model,
            sorted(read_generations(done), key=lambda row: row.task_id),
            prompts,
            config.prompts.suites,
            judge=config.evaluate.judges[0].name,
            decisions=_judge(config, done, storage.join(folder, model), reports[model]),
            decoding=config.evaluate.decoding,
            gate=config.gate,
            threshold=card.threshold,
        )
    storage.write_rows(storage.join(folder, "records.parquet"), records, EvalRecord)
    kinds = {prompt.source: prompt.kind for prompt in prompts}
    measurements = list(measure(records, kinds, config.evaluate.max_unscored_share))
    judges = {model: report.as_json() for model, report in reports.items()}
    write_report(folder, config, measurements, records, card.threshold, judges)
    return {
        "records": len(records),
        "measurements": len(measurements),
        "unscored": sum(record.verdict == "unscored" for record in records),
    }


def _judge(config: Config, generations: str, folder: str, report: JudgeReport) -> dict[str, Decision]:
    """The first judge's decisions by task_id; all judges' go into the report."""
    decisions: dict[str, Decision] = {}
    for one in judge_answers(generations, config.evaluate.judges, folder, config.run.seed):
        report.add(one)
        decisions[one.generation.task_id] = one.decision
    return decisions


def _generate(config: Config, model: str, prompts: list[Prompt], folder: str) -> str:
    """The base reads the export's head, too: what the head says of latents that were never aligned is a control."""
    settings, exported = config.evaluate, config.run_directory.folder("model")
    job = Job(
        model=ModelSpec(
            model_folder(config),
            config.model.dtype,
            exported=exported if model == "aligned" else None,
            head=exported,
            think=config.model.think,
        ),
        engine=settings.engine,
        decoding=dict.fromkeys(settings.cot, settings.decoding),
        workers=settings.workers,
        rows_per_block=settings.rows_per_block,
        seed=config.run.seed,
    )
    texts = {prompt.prompt_id: prompt.text for prompt in prompts}
    tasks = [Task(task_id(i, cot), i, text, cot, 0) for i, text in texts.items() for cot in settings.cot]
    return run_generation(tasks, folder, job, f"evaluate {model}")
