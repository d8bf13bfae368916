"""Stage `evaluate`: `records.parquet` with every answer and verdict, `report.json`, `report.md` and `report.html`."""

import itertools
import json
from collections.abc import Collection, Iterator
from functools import partial

import pyarrow.compute as pc

from presafe import reads, storage
from presafe.cluster.check import check_cluster, packages_of
from presafe.cluster.demand import demand
from presafe.config import Config
from presafe.config.defences import Defence
from presafe.defences import catalogue
from presafe.defences.arms import CLASSIFIER, FILES, Arm, has_classifier, read_classifier
from presafe.engines.base_row import with_row
from presafe.engines.card import MARKER, read_card
from presafe.engines.fit import check_engine_memory
from presafe.engines.job import GENERATIONS, Generation, Job, run_generation
from presafe.engines.start import ModelSpec
from presafe.evaluate.by_prompt import read_by_prompt
from presafe.evaluate.categories import read_categories
from presafe.evaluate.harm import Harm, judged_harm
from presafe.evaluate.measured import Measured, counted_verdicts, measured
from presafe.evaluate.measurements import Measurement
from presafe.evaluate.overlaps import OVERLAP_TABLE, OVERLAPS, read_overlaps
from presafe.evaluate.report import write_report
from presafe.evaluate.samples import read_samples
from presafe.evaluate.suite_prompts import SuitePrompts
from presafe.evaluate.tally import read_tally
from presafe.evaluate.tasks import read_by_defences, tasks
from presafe.evaluate.verdicts import eval_records
from presafe.judges.agreement import JudgeReport
from presafe.judges.answers import check_judges, judge_answers
from presafe.records import Decision, EvalRecord
from presafe.runtime import connect, model_folder
from presafe.stages import Part, Rows, content_hash, run_stage
from presafe.suites import suite_prompts

EXPORTED = "exported weights"
"""The name by which part `generate` knows what it evaluates."""
SAMPLES = "samples"
MEASUREMENTS = "measurements.json"
ATTACKS = "attacks asked"
"""The name by which parts know under which attacks prompts are asked: they follow it row by row, as they do suites."""

INPUTS = ("prompts", "align")


def run_evaluate(config: Config, *, redo: Collection[str] = (), force: bool = False) -> None:
    """Run the stage on the model that stage `align` exported."""
    run_stage(config.run_directory, "evaluate", parts(config), inputs=INPUTS, redo=redo, force=force)


def parts(config: Config) -> list[Part]:
    """Generate all answers, grade them, have defences read the prompts, measure and report; behind `generate` the
    driver holds a batch of rows."""
    settings = config.evaluate.results()
    asked_under, _ = settings.pop("attacks"), settings.pop("defences")
    judges, ceiling = {"judges": settings.pop("judges")}, {"max_unscored_share": settings.pop("max_unscored_share")}
    harm = {name: settings.pop(name) for name in ("harm_judges", "judge_thoughts")}
    judges |= harm if config.evaluate.harm_judges else {}
    del settings["samples"]  # rows follow them, as they follow the suites
    common = {"model": config.model.results(), "seed": config.run.seed}

    def weights() -> dict[str, str]:
        return {EXPORTED: reads.exported_weights(config.run_directory)}

    def threshold() -> dict[str, str]:
        model = config.run_directory.folder("model")
        return {"threshold": str(read_card(model).threshold)} if storage.exists(storage.join(model, MARKER)) else {}

    def asked() -> dict[str, str]:
        return reads.suite_prompts(config) | ({ATTACKS: content_hash(asked_under)} if asked_under else {})

    def generated_from() -> dict[str, str]:
        several = {name: k for name, k in sorted(config.evaluate.samples.items()) if k > 1}
        samples = {SAMPLES: json.dumps(several)} if several else {}
        return asked() | reads.base_model(config) | weights() | samples

    def scored_from(defence: Defence) -> dict[str, str]:
        return asked() | catalogue.read_by(defence, config)

    def graded() -> dict[str, str]:
        judged_by = reads.judges(config, config.evaluate.judges, config.evaluate.human_labels)
        judged_by |= reads.judges(config, config.evaluate.harm_judges, None, "harm judge")
        attacks = {"attacks": content_hash(_labels(config))}
        return reads.rows(config, "evaluate", *answers) | judged_by | generated_from() | attacks | threshold()

    def recorded() -> dict[str, str]:
        records = reads.rows(config, "evaluate", "records.parquet") | reads.rows(config, "prompts", OVERLAPS)
        return records | reads.suite_prompts(config)

    def counted() -> dict[str, str]:
        read = recorded() | reads.rows(config, "evaluate", *map(catalogue.scores_of, config.evaluate.defences))
        if not _free_classifier(config):
            return read
        scores, temperature = FILES
        return read | reads.rows(config, "signals", scores) | reads.files(config, "signals", temperature)

    def reported() -> dict[str, str]:
        overlaps = reads.files(config, "prompts", OVERLAP_TABLE)
        return reads.files(config, "evaluate", MEASUREMENTS, "judges.json") | overlaps | threshold() | recorded()

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
            follows=(reads.SUITES, SAMPLES, ATTACKS),
        ),
        Part(
            "grade",
            generating | judges | {"refusal": config.gate.refusal},
            graded,
            partial(_grade, config),
            _in(("judged", "judges.json", "records.parquet")),
            follows=(reads.SUITES, SAMPLES, ATTACKS, "attacks", *_in(answers)),
        ),
        *(
            Part(
                f"defence_{defence.name}",
                catalogue.made_of(defence, config),
                partial(scored_from, defence),
                partial(_score, config, defence),
                _in((storage.join(catalogue.FOLDER, defence.name),)),
                follows=(reads.SUITES, ATTACKS),
            )
            for defence in config.evaluate.defences
        ),
        Part("measure", {"evaluate": ceiling}, counted, partial(_measure, config), _in((MEASUREMENTS,))),
        Part("report", {"evaluate": told}, reported, partial(_report, config), _in(report_files)),
    ]


def _in(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"evaluate/{name}" for name in names)


def _free_classifier(config: Config) -> bool:
    """Whether the run's classifier, as stage `signals` has had it read the suites, is an arm of its own."""
    named = {defence.name for defence in config.evaluate.defences}
    return CLASSIFIER not in named and has_classifier(config.run_directory)


def _labels(config: Config) -> dict[str, str]:
    """What each suite says of its prompts."""
    return {suite.name: suite.attack for suite in config.suites}


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
    check_judges([*settings.judges, *settings.harm_judges], config.cluster)
    JudgeReport(settings.judges, settings.human_labels)  # the labels are read before hours of generation
    for defence in settings.defences:
        catalogue.check(defence, config)
    jobs = [_generate(config, model, storage.join(folder, model)) for model in settings.models]
    return {"answers": sum(storage.count_rows(job) for job in jobs)}


def _grade(config: Config, folder: str) -> Rows:
    settings = config.evaluate
    connect(config.cluster)
    check_judges([*settings.judges, *settings.harm_judges], config.cluster)
    reports = {model: JudgeReport(settings.judges, settings.human_labels) for model in settings.models}
    prompts, card = SuitePrompts(suite_prompts(config.run_directory)), read_card(config.run_directory.folder("model"))
    answers = {
        model: _judged(config, storage.join(folder, model, GENERATIONS), storage.join(folder, "judged", model), report)
        for model, report in reports.items()
    }
    harm_reports = {model: JudgeReport(settings.harm_judges, settings.human_labels) for model in settings.models}
    harm = {model: _harm(config, folder, model, prompts, report) for model, report in harm_reports.items()}
    records = (
        eval_records(
            model,
            answers[model],
            prompts,
            config.suites,
            evaluate=settings,
            gate=config.gate,
            threshold=card.threshold,
            harm=harm[model],
        )
        for model in settings.models
    )
    written = storage.join(folder, "records.parquet")
    count = storage.write_rows(written, itertools.chain.from_iterable(records), EvalRecord)
    judges = {model: report.as_json() for model, report in reports.items()}
    if settings.harm_judges:
        judges = {model: report | {"harm": harm_reports[model].as_json()} for model, report in judges.items()}
    storage.write_json(storage.join(folder, "judges.json"), judges)
    return {"records": count, "unscored": storage.count_rows(written, pc.field("verdict") == "unscored")}


def _score(config: Config, defence: Defence, folder: str) -> Rows:
    connect(config.cluster)
    catalogue.check(defence, config)
    asked = read_by_defences(config.evaluate, partial(suite_prompts, config.run_directory), config.run.seed)
    own = storage.join(folder, catalogue.FOLDER, defence.name)
    return {"scores": catalogue.score(defence, config, asked, own)}


def arms_beside(config: Config) -> list[Arm]:
    """The defences of the config, and the run's classifier where it costs nothing."""
    classifier = read_classifier(config.run_directory) if _free_classifier(config) else None
    found = [catalogue.arm_of(defence, config) for defence in config.evaluate.defences]
    return found if classifier is None else [classifier, *found]


def _measure(config: Config, folder: str) -> Rows:
    kinds = {prompt.source: prompt.kind for prompt in suite_prompts(config.run_directory)}
    records, overlapping = storage.join(folder, "records.parquet"), read_overlaps(config).prompts
    categories = read_categories(suite_prompts(config.run_directory))
    by_prompt, labels = read_by_prompt(records, counted_verdicts(kinds), overlapping), _labels(config)
    tally = read_tally(records, overlapping, labels)
    ceiling, beside = config.evaluate.max_unscored_share, arms_beside(config)
    found = measured(tally, by_prompt, kinds, ceiling, labels, beside, categories)
    storage.write_json(storage.join(folder, MEASUREMENTS), found.model_dump(mode="json"))
    return {"measurements": len(found.measurements)}


def _report(config: Config, folder: str) -> Rows:
    found, overlaps = read_measured(config), read_overlaps(config)
    threshold = read_card(config.run_directory.folder("model")).threshold
    judges = storage.read_json(storage.join(folder, "judges.json"))
    records, a_cell = storage.join(folder, "records.parquet"), config.evaluate.report_samples
    prompts = suite_prompts(config.run_directory)
    samples = read_samples(records, prompts, a_cell, overlaps.prompts, _labels(config)) if a_cell else None
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


def _harm(config: Config, folder: str, model: str, prompts: SuitePrompts, report: JudgeReport) -> Harm | None:
    """What the graders of harm say of a model's answers."""
    generations, own = storage.join(folder, model, GENERATIONS), storage.join(folder, "judged", model, "harm")
    return judged_harm(generations, config.evaluate, prompts, own, config.run.seed, report)


def _generate(config: Config, model: str, folder: str) -> str:
    """The base reads the export's head, too: what the head says of latents that were never aligned is a control."""
    settings, exported = config.evaluate, config.run_directory.folder("model")
    own = exported if model == "aligned" else None
    spec = ModelSpec(model_folder(config), config.model.dtype, own, exported, config.model.think)
    asked = tasks(settings, partial(suite_prompts, config.run_directory), config.run.seed)
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
        return run_generation(asked, folder, job, f"evaluate {model}")
