"""Stage `evaluate`: `records.parquet` with every answer and verdict, `report.json`, `report.md` and `report.html`."""

import itertools
from collections.abc import Collection, Iterator
from functools import partial

import pyarrow.compute as pc

from presafe import reads, storage
from presafe.cluster.check import check_cluster, packages_of
from presafe.cluster.demand import demand
from presafe.config import Config
from presafe.engines.base_row import with_row
from presafe.engines.card import MARKER, read_card
from presafe.engines.fit import check_engine_memory
from presafe.engines.job import GENERATIONS, Generation, Job, Task, run_generation, task_of
from presafe.engines.start import ModelSpec
from presafe.evaluate.by_prompt import read_by_prompt
from presafe.evaluate.measured import Measured, counted_verdicts, measured
from presafe.evaluate.measurements import Measurement
from presafe.evaluate.overlaps import OVERLAP_TABLE, OVERLAPS, read_overlaps
from presafe.evaluate.report import write_report
from presafe.evaluate.samples import read_samples
from presafe.evaluate.suite_prompts import SuitePrompts
from presafe.evaluate.tally import read_tally
from presafe.evaluate.verdicts import eval_records
from presafe.judges.agreement import JudgeReport
from presafe.judges.answers import check_judges, judge_answers
from presafe.records import Decision, EvalRecord
from presafe.runtime import connect, model_folder
from presafe.stages import Part, Rows, content_hash, run_stage
from presafe.suites import suite_prompts

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
        return {"threshold": str(read_card(model).threshold)} if storage.exists(storage.join(model, MARKER)) else {}

    def generated_from() -> dict[str, str]:
        return reads.suite_prompts(config) | reads.base_model(config) | weights()

    def graded() -> dict[str, str]:
        judged_by = reads.judges(config, config.evaluate.judges, config.evaluate.human_labels)
        attacks = {"attacks": content_hash({suite.name: suite.attack for suite in config.suites})}
        return reads.rows(config, "evaluate", *answers) | judged_by | generated_from() | attacks | threshold()

    def counted() -> dict[str, str]:
        records = reads.rows(config, "evaluate", "records.parquet") | reads.rows(config, "prompts", OVERLAPS)
        return records | reads.suite_prompts(config)

    def reported() -> dict[str, str]:
        overlaps = reads.files(config, "prompts", OVERLAP_TABLE)
        return reads.files(config, "evaluate", MEASUREMENTS, "judges.json") | overlaps | threshold() | counted()

    models = tuple(config.evaluate.models)
    answers = tuple(f"{model}/{GENERATIONS}" for model in models)
    generating, told = {"evaluate": settings, **common}, ceiling | {"decision": config.evaluate.decision}
    report_files = ("report.json", "report.md", "report.html")
    return [
        Part(
            "generate",
            generating,
            generated_from,
            partial(_generate_all, config),
            _in(models),
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
        Part("measure", {"evaluate": ceiling}, counted, partial(_measure, config), _in((MEASUREMENTS,))),
        Part("report", {"evaluate": told}, reported, partial(_report, config), _in(report_files)),
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
    settings = config.evaluate
    check_cluster(demand("evaluate", settings.workers), config.cluster, packages_of(settings.engine))
    base, dtype = model_folder(config), config.model.dtype
    check_engine_memory("evaluate.engine", settings.engine, settings.workers, base, dtype, settings.decoding)
    check_judges(config.evaluate.judges, config.cluster)
    JudgeReport(config.evaluate.judges, config.evaluate.human_labels)  # the labels are read before hours of generation
    jobs = [_generate(config, model, storage.join(folder, model)) for model in settings.models]
    return {"answers": sum(storage.count_rows(job) for job in jobs)}


def _grade(config: Config, folder: str) -> Rows:
    settings = config.evaluate
    connect(config.cluster)
    check_judges(settings.judges, config.cluster)
    reports = {model: JudgeReport(settings.judges, settings.human_labels) for model in settings.models}
    prompts, card = SuitePrompts(suite_prompts(config.run_directory)), read_card(config.run_directory.folder("model"))
    answers = {
        model: _judged(config, storage.join(folder, model, GENERATIONS), storage.join(folder, "judged", model), report)
        for model, report in reports.items()
    }
    records = (
        eval_records(
            model,
            answers[model],
            prompts,
            config.suites,
            evaluate=settings,
            gate=config.gate,
            threshold=card.threshold,
        )
        for model in settings.models
    )
    written = storage.join(folder, "records.parquet")
    count = storage.write_rows(written, itertools.chain.from_iterable(records), EvalRecord)
    storage.write_json(
        storage.join(folder, "judges.json"), {model: report.as_json() for model, report in reports.items()}
    )
    return {"records": count, "unscored": storage.count_rows(written, pc.field("verdict") == "unscored")}


def _measure(config: Config, folder: str) -> Rows:
    kinds = {prompt.source: prompt.kind for prompt in suite_prompts(config.run_directory)}
    records, overlapping = storage.join(folder, "records.parquet"), read_overlaps(config).prompts
    by_prompt = read_by_prompt(records, counted_verdicts(kinds), overlapping)
    found = measured(read_tally(records, overlapping), by_prompt, kinds, config.evaluate.max_unscored_share)
    storage.write_json(storage.join(folder, MEASUREMENTS), found.model_dump(mode="json"))
    return {"measurements": len(found.measurements)}


def _report(config: Config, folder: str) -> Rows:
    found, overlaps = read_measured(config), read_overlaps(config)
    threshold = read_card(config.run_directory.folder("model")).threshold
    judges = storage.read_json(storage.join(folder, "judges.json"))
    records, a_cell = storage.join(folder, "records.parquet"), config.evaluate.report_samples
    prompts = suite_prompts(config.run_directory)
    samples = read_samples(records, prompts, a_cell, overlaps.prompts) if a_cell else None
    write_report(folder, config, found, threshold, judges, overlaps, samples)
    return {}


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


def _generate(config: Config, model: str, folder: str) -> str:
    """The base reads the export's head, too: what the head says of latents that were never aligned is a control."""
    settings, exported = config.evaluate, config.run_directory.folder("model")
    own = exported if model == "aligned" else None
    spec = ModelSpec(model_folder(config), config.model.dtype, own, exported, config.model.think)
    with with_row(spec, settings.engine, storage.join(folder, "with_row")) as readable:
        job = Job(
            model=readable,
            engine=settings.engine,
            decoding=dict.fromkeys(settings.cot, settings.decoding),
            workers=settings.workers,
            rows_per_block=settings.rows_per_block,
            seed=config.run.seed,
            decision=settings.decision,
        )
        return run_generation(_tasks(config), folder, job, f"evaluate {model}")


def _tasks(config: Config) -> Iterator[Task]:
    """Every prompt once, in however many suites it is."""
    asked = set[str]()
    for prompt in suite_prompts(config.run_directory):
        if prompt.prompt_id not in asked:
            asked.add(prompt.prompt_id)
            for cot in config.evaluate.cot:
                yield task_of(prompt, cot)
