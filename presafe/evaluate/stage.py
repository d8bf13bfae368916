"""Stage `evaluate`: `records.parquet` with every answer and verdict, `report.json`, `report.md` and `report.html`."""

import itertools
from collections.abc import Collection, Iterator
from functools import partial

import pyarrow.compute as pc

from presafe import reads, storage
from presafe.config import Config
from presafe.engines.card import read_card
from presafe.engines.job import GENERATIONS, Generation, Job, Task, run_generation, task_id
from presafe.engines.start import ModelSpec
from presafe.evaluate.measurements import Measured, Measurement, measured
from presafe.evaluate.report import write_report
from presafe.evaluate.suite_prompts import SuitePrompts
from presafe.evaluate.tally import read_tally
from presafe.evaluate.verdicts import eval_records
from presafe.judges.agreement import JudgeReport
from presafe.judges.answers import check_judges, judge_answers
from presafe.records import Decision, EvalRecord, Prompt
from presafe.runtime import connect, demand, model_folder, preflight
from presafe.stages import Part, Rows, run_stage

MODELS = ("base", "aligned")
EXPORTED = "exported weights"
"""The name by which part `generate` knows what it evaluates."""
MEASUREMENTS = "measurements.json"

INPUTS = ("prompts", "align")


def run_evaluate(config: Config, *, redo: Collection[str] = (), force: bool = False) -> None:
    """Run the stage on the model that stage `align` exported."""
    run_stage(config.run_directory, "evaluate", parts(config), inputs=INPUTS, redo=redo, force=force)


def parts(config: Config) -> list[Part]:
    """Generate all answers, grade them, measure and report; behind `generate` the driver holds a batch of rows."""
    settings = config.evaluate.results()
    judges, ceiling = {"judges": settings.pop("judges")}, {"max_unscored_share": settings.pop("max_unscored_share")}
    common = {"model": config.model.results(), "seed": config.run.seed}

    def weights() -> dict[str, str]:
        return {EXPORTED: reads.exported_weights(config.run_directory)}

    def threshold() -> dict[str, str]:
        model = config.run_directory.folder("model")
        return {"threshold": str(read_card(model).threshold)} if storage.exists(model) else {}

    def generated_from() -> dict[str, str]:
        return reads.suite_prompts(config) | reads.base_model(config) | weights()

    def graded() -> dict[str, str]:
        answers = reads.rows(config, "evaluate", *(f"{model}/{GENERATIONS}" for model in MODELS))
        judged_by = reads.judges(config, config.evaluate.judges, config.evaluate.human_labels)
        return answers | judged_by | reads.suite_prompts(config) | threshold()

    def counted() -> dict[str, str]:
        return reads.rows(config, "evaluate", "records.parquet") | reads.suite_prompts(config)

    def reported() -> dict[str, str]:
        return reads.files(config, "evaluate", MEASUREMENTS, "judges.json") | threshold()

    # What the records say of their answers, beside the verdicts.
    attacks = {suite.name: suite.attack for suite in config.prompts.suites}
    named = {"refusal": config.gate.refusal, "attacks": attacks, "decoding": settings["decoding"]} | common
    report_files = ("report.json", "report.md", "report.html")
    return [
        Part("generate", {"evaluate": settings, **common}, generated_from, partial(_generate_all, config), _in(MODELS)),
        Part(
            "grade",
            judges | named,
            graded,
            partial(_grade, config),
            _in(("judged", "judges.json", "records.parquet")),
        ),
        Part("measure", {"evaluate": ceiling}, counted, partial(_measure, config), _in((MEASUREMENTS,))),
        Part("report", {"evaluate": ceiling}, reported, partial(_report, config), _in(report_files)),
    ]


def _in(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"evaluate/{name}" for name in names)


def read_measurements(config: Config) -> list[Measurement]:
    """The measurements of a finished stage, as the report has them."""
    return read_measured(config).measurements


def read_measured(config: Config) -> Measured:
    """All that the report of a finished stage shows of the records."""
    file = storage.join(config.run_directory.folder("evaluate"), MEASUREMENTS)
    return Measured.model_validate(storage.read_json(file))


def _generate_all(config: Config, folder: str) -> Rows:
    connect(config.cluster)
    preflight(demand("evaluate", config.evaluate.workers))
    check_judges(config.evaluate.judges)
    JudgeReport(config.evaluate.judges, config.evaluate.human_labels)  # the labels are read before hours of generation
    prompts = [*_suite_prompts(config)]
    jobs = [_generate(config, model, prompts, storage.join(folder, model)) for model in MODELS]
    return {"answers": sum(storage.count_rows(job) for job in jobs)}


def _grade(config: Config, folder: str) -> Rows:
    connect(config.cluster)
    check_judges(config.evaluate.judges)
    reports = {model: JudgeReport(config.evaluate.judges, config.evaluate.human_labels) for model in MODELS}
    prompts, card = SuitePrompts(_suite_prompts(config)), read_card(config.run_directory.folder("model"))
    answers = {
        model: _judged(config, storage.join(folder, model, GENERATIONS), storage.join(folder, "judged", model), report)
        for model, report in reports.items()
    }
    records = (
        eval_records(
            model,
            answers[model],
            prompts,
            config.prompts.suites,
            judge=config.evaluate.judges[0].name,
            decoding=config.evaluate.decoding,
            gate=config.gate,
            threshold=card.threshold,
        )
        for model in MODELS
    )
    written = storage.join(folder, "records.parquet")
    count = storage.write_rows(written, itertools.chain.from_iterable(records), EvalRecord)
    storage.write_json(
        storage.join(folder, "judges.json"), {model: report.as_json() for model, report in reports.items()}
    )
    return {"records": count, "unscored": storage.count_rows(written, pc.field("verdict") == "unscored")}


def _measure(config: Config, folder: str) -> Rows:
    kinds = {prompt.source: prompt.kind for prompt in _suite_prompts(config)}
    tally = read_tally(storage.join(folder, "records.parquet"))
    found = measured(tally, kinds, config.evaluate.max_unscored_share)
    storage.write_json(storage.join(folder, MEASUREMENTS), found.model_dump(mode="json"))
    return {"measurements": len(found.measurements)}


def _report(config: Config, folder: str) -> Rows:
    found = read_measured(config)
    threshold = read_card(config.run_directory.folder("model")).threshold
    write_report(folder, config, found, threshold, storage.read_json(storage.join(folder, "judges.json")))
    return {}


def _suite_prompts(config: Config) -> Iterator[Prompt]:
    file = storage.join(config.run_directory.folder("prompts"), "prompts.parquet")
    return storage.stream_rows(file, Prompt, reads.SUITES)


def _judged(
    config: Config, generations: str, folder: str, report: JudgeReport
) -> Iterator[tuple[Generation, Decision]]:
    """Every answer with the first judge's decision, streamed; all judges' go into the report.

    Judges that run on models have done so when this returns. Answers that failed come last, unscored.
    """
    judged = judge_answers(generations, config.evaluate.judges, folder, config.run.seed)

    def good() -> Iterator[tuple[Generation, Decision]]:
        for one in judged:
            report.add(one)
            yield one.generation, one.decision

    failed = storage.stream_rows(generations, Generation, pc.field("error").is_valid())
    return itertools.chain(good(), ((row, "unscored") for row in failed))


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
