"""Stage `evaluate`: `records.parquet` with every answer and verdict, `report.json`, `report.md` and `report.html`."""

from collections.abc import Collection
from functools import partial

from presafe import reads, storage
from presafe.config import Config
from presafe.engines.card import read_card
from presafe.engines.fit import check_engine_memory
from presafe.engines.job import GENERATIONS, Job, Task, read_generations, run_generation, task_id
from presafe.engines.start import ModelSpec
from presafe.evaluate.measurements import Measurement, measure
from presafe.evaluate.overlaps import OVERLAP_TABLE, OVERLAPS, read_overlaps
from presafe.evaluate.report import write_report
from presafe.evaluate.verdicts import eval_records
from presafe.judges.agreement import JudgeReport
from presafe.judges.answers import check_judges, judge_answers
from presafe.records import Decision, EvalRecord, Prompt
from presafe.runtime import connect, demand, model_folder, preflight
from presafe.stages import Part, Rows, content_hash, run_stage
from presafe.suites import suite_prompts

MODELS = ("base", "aligned")
EXPORTED = "exported weights"
"""The name by which part `generate` knows what it evaluates."""


INPUTS = ("prompts", "align")


def run_evaluate(config: Config, *, redo: Collection[str] = (), force: bool = False) -> None:
    """Run the stage on the model that stage `align` exported."""
    run_stage(config.run_directory, "evaluate", parts(config), inputs=INPUTS, redo=redo, force=force)


def parts(config: Config) -> list[Part]:
    """Generate all answers, grade them, measure and report."""
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
        judged_by = reads.judges(config, config.evaluate.judges, config.evaluate.human_labels)
        attacks = {"attacks": content_hash({suite.name: suite.attack for suite in config.suites})}
        return reads.rows(config, "evaluate", *answers) | judged_by | generated_from() | attacks | threshold()

    def reported() -> dict[str, str]:
        verdicts = reads.rows(config, "evaluate", "records.parquet") | reads.files(config, "evaluate", "judges.json")
        overlaps = reads.rows(config, "prompts", OVERLAPS) | reads.files(config, "prompts", OVERLAP_TABLE)
        return verdicts | overlaps | reads.suite_prompts(config) | threshold()

    answers = tuple(f"{model}/{GENERATIONS}" for model in MODELS)
    generating = {"evaluate": settings, **common}
    report_files = ("report.json", "report.md", "report.html")
    return [
        Part(
            "generate",
            generating,
            generated_from,
            partial(_generate_all, config),
            _in(MODELS),
            follows=(reads.SUITES,),
        ),
        Part(
            "grade",
            generating | judges | {"refusal": config.gate.refusal},
            graded,
            partial(_grade, config),
            _in(("judged", "judges.json", "records.parquet")),
            follows=(reads.SUITES, "attacks", *_in(answers)),
        ),
        Part("report", {"evaluate": ceiling}, reported, partial(_report, config), _in(report_files)),
    ]


def _in(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"evaluate/{name}" for name in names)


def read_measurements(config: Config) -> list[Measurement]:
    """The measurements of a finished stage, as the report has them."""
    report = storage.read_json(storage.join(config.run_directory.folder("evaluate"), "report.json"))
    return [Measurement.model_validate(row) for row in report["measurements"]]


def _generate_all(config: Config, folder: str) -> Rows:
    connect(config.cluster)
    preflight(demand("evaluate", config.evaluate.workers))
    settings = config.evaluate
    base, dtype = model_folder(config), config.model.dtype
    check_engine_memory("evaluate.engine", settings.engine, settings.workers, base, dtype, settings.decoding)
    check_judges(config.evaluate.judges)
    JudgeReport(config.evaluate.judges, config.evaluate.human_labels)  # the labels are read before hours of generation
    prompts = list(suite_prompts(config.run_directory))
    jobs = [_generate(config, model, prompts, storage.join(folder, model)) for model in MODELS]
    return {"answers": sum(storage.count_rows(job) for job in jobs)}


def _grade(config: Config, folder: str) -> Rows:
    connect(config.cluster)
    check_judges(config.evaluate.judges)
    reports = {model: JudgeReport(config.evaluate.judges, config.evaluate.human_labels) for model in MODELS}
    prompts, card = list(suite_prompts(config.run_directory)), read_card(config.run_directory.folder("model"))
    records: list[EvalRecord] = []
    for model in MODELS:
        done = storage.join(folder, model, GENERATIONS)
        records += eval_records(
            model,
            sorted(read_generations(done), key=lambda row: row.task_id),
            prompts,
            config.suites,
            judge=config.evaluate.judges[0].name,
            decisions=_judge(config, done, storage.join(folder, "judged", model), reports[model]),
            decoding=config.evaluate.decoding,
            gate=config.gate,
            threshold=card.threshold,
        )
    storage.write_rows(storage.join(folder, "records.parquet"), records, EvalRecord)
    storage.write_json(
        storage.join(folder, "judges.json"), {model: report.as_json() for model, report in reports.items()}
    )
    return {"records": len(records), "unscored": sum(record.verdict == "unscored" for record in records)}


def _report(config: Config, folder: str) -> Rows:
    records = storage.read_rows(storage.join(folder, "records.parquet"), EvalRecord)
    kinds = {prompt.source: prompt.kind for prompt in suite_prompts(config.run_directory)}
    overlaps = read_overlaps(config)
    measurements = list(measure(records, kinds, config.evaluate.max_unscored_share, overlaps.prompts))
    threshold = read_card(config.run_directory.folder("model")).threshold
    judges = storage.read_json(storage.join(folder, "judges.json"))
    write_report(folder, config, measurements, records, threshold, judges, overlaps)
    return {"measurements": len(measurements)}


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
        decision=settings.decision,
    )
    texts = {prompt.prompt_id: prompt.text for prompt in prompts}
    tasks = [Task(task_id(i, cot), i, text, cot, 0) for i, text in texts.items() for cot in settings.cot]
    return run_generation(tasks, folder, job, f"evaluate {model}")
