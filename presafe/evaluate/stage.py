"""Stage `evaluate`: `records.parquet` with every answer and verdict, `report.json`, `report.md` and `report.html`."""

import itertools
import json
from collections.abc import Callable, Collection, Iterator
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
from presafe.evaluate.cost import COST, Cost, count, log_counted, log_predicted
from presafe.evaluate.decoded import of_decodings, read_counts
from presafe.evaluate.harm import Harm, judged_harm
from presafe.evaluate.measured import Measured, counted_verdicts, measured
from presafe.evaluate.measurements import Measurement
from presafe.evaluate.overlaps import OVERLAP_TABLE, OVERLAPS, read_overlaps
from presafe.evaluate.plan import predicted
from presafe.evaluate.report import write_report
from presafe.evaluate.samples import read_samples
from presafe.evaluate.suite_prompts import SuitePrompts
from presafe.evaluate.tally import read_tally
from presafe.evaluate.tasks import TokenCounter, read_by_defences, tasks
from presafe.evaluate.verdicts import eval_records
from presafe.judges.agreement import JudgeReport
from presafe.judges.answers import JudgedAnswer, check_judges, decide
from presafe.records import Decision, EvalRecord
from presafe.runtime import connect, model_folder
from presafe.stages import Part, Rows, content_hash, run_stage
from presafe.suites import suite_prompts

EXPORTED = "exported weights"
"""The name by which part `generate` knows what it evaluates."""
SAMPLES = "samples"
MEASUREMENTS = "measurements.json"
ATTACKS = "attacks asked"
DECODINGS = "further decodings"
"""The names by which parts know under which attacks and with which further decodings prompts are asked: they follow
them row by row, as they do suites."""
DECODED = "decodings.parquet"
"""Records of the further decodings, apart from all others."""
FOLLOWED = (reads.SUITES, SAMPLES, ATTACKS, DECODINGS)

INPUTS = ("prompts", "align")


def run_evaluate(config: Config, *, redo: Collection[str] = (), force: bool = False) -> None:
    """Run the stage on the model that stage `align` exported."""
    run_stage(config.run_directory, "evaluate", parts(config), inputs=INPUTS, redo=redo, force=force)


def parts(config: Config) -> list[Part]:
    """Generate all answers, grade them, have defences read the prompts, measure and report; behind `generate` the
    driver holds a batch of rows."""
    settings = config.evaluate.results()
    asked_under, decoded, _ = settings.pop("attacks"), settings.pop("decodings"), settings.pop("defences")
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
        further = {DECODINGS: content_hash(decoded)} if decoded else {}
        return asked() | reads.base_model(config) | weights() | samples | further

    def scored_from(defence: Defence) -> dict[str, str]:
        return asked() | catalogue.read_by(defence, config)

    def graded() -> dict[str, str]:
        judged_by = reads.judges(config, config.evaluate.judges, config.evaluate.human_labels)
        judged_by |= reads.judges(config, config.evaluate.harm_judges, None, "harm judge")
        attacks = {"attacks": content_hash(_labels(config))}
        return reads.rows(config, "evaluate", *answers) | judged_by | generated_from() | attacks | threshold()

    def recorded() -> dict[str, str]:
        names = ("records.parquet", DECODED) if decoded else ("records.parquet",)
        records = reads.rows(config, "evaluate", *names) | reads.rows(config, "prompts", OVERLAPS)
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
            _in((*models, COST)),
            follows=FOLLOWED,
        ),
        Part(
            "grade",
            generating | judges | {"refusal": config.gate.refusal},
            graded,
            partial(_grade, config),
            _in(("judged", "judges.json", "records.parquet", DECODED)),
            follows=(*FOLLOWED, "attacks", *_in(answers)),
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
    tokens = TokenCounter(config)
    cost, told = Cost(predicted=predicted(config, tokens)), storage.join(folder, COST)
    log_predicted(cost.predicted)
    storage.write_json(told, cost.model_dump(mode="json"))
    jobs = [_generate(config, model, storage.join(folder, model), tokens) for model in settings.models]
    cost.counted = count(folder, settings, cost.predicted)
    log_counted(cost.counted)
    storage.write_json(told, cost.model_dump(mode="json"))
    return {"answers": sum(storage.count_rows(job) for job in jobs)}


def _grade(config: Config, folder: str) -> Rows:
    settings = config.evaluate
    connect(config.cluster)
    check_judges([*settings.judges, *settings.harm_judges], config.cluster)
    reports = {model: JudgeReport(settings.judges, settings.human_labels) for model in settings.models}
    prompts, card = SuitePrompts(suite_prompts(config.run_directory)), read_card(config.run_directory.folder("model"))
    answers = {
        model: _Answers(config, storage.join(folder, model, GENERATIONS), storage.join(folder, "judged", model), report)
        for model, report in reports.items()
    }
    harm_reports = {model: JudgeReport(settings.harm_judges, settings.human_labels) for model in settings.models}
    harm = {model: _harm(config, folder, model, prompts, report) for model, report in harm_reports.items()}

    def records(*, further: bool) -> Iterator[EvalRecord]:
        for model in settings.models:
            yield from eval_records(
                model,
                answers[model].further() if further else answers[model].all_others(),
                prompts,
                config.suites,
                evaluate=settings,
                gate=config.gate,
                threshold=card.threshold,
                harm=harm[model],
            )

    written, decoded = storage.join(folder, "records.parquet"), storage.join(folder, DECODED)
    rows = {"records": storage.write_rows(written, records(further=False), EvalRecord)}
    if settings.decodings:
        rows["records_of_decodings"] = storage.write_rows(decoded, records(further=True), EvalRecord)
    else:
        storage.remove(decoded)
    judges = {model: report.as_json() for model, report in reports.items()}
    if settings.harm_judges:
        judges = {model: report | {"harm": harm_reports[model].as_json()} for model, report in judges.items()}
    storage.write_json(storage.join(folder, "judges.json"), judges)
    return rows | {"unscored": storage.count_rows(written, pc.field("verdict") == "unscored")}


def _score(config: Config, defence: Defence, folder: str) -> Rows:
    connect(config.cluster)
    catalogue.check(defence, config)
    prompts = partial(suite_prompts, config.run_directory)
    asked = read_by_defences(config.evaluate, prompts, config.run.seed, TokenCounter(config))
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
    if config.evaluate.decodings:
        counted = read_counts(storage.join(folder, DECODED), counted_verdicts(kinds), overlapping)
        further = of_decodings(counted, config.evaluate, kinds, labels)
        found = found.model_copy(update={"decoded": list(further)})
    storage.write_json(storage.join(folder, MEASUREMENTS), found.model_dump(mode="json"))
    return {"measurements": len(found.measurements)}


def _report(config: Config, folder: str) -> Rows:
    found, overlaps = read_measured(config), read_overlaps(config)
    threshold = read_card(config.run_directory.folder("model")).threshold
    judges = storage.read_json(storage.join(folder, "judges.json"))
    records, a_cell = storage.join(folder, "records.parquet"), config.evaluate.report_samples
    prompts = suite_prompts(config.run_directory)
    samples = read_samples(records, prompts, a_cell, overlaps.prompts, _labels(config)) if a_cell else None
    told = storage.join(folder, COST)  # a run of an earlier version has none
    cost = Cost.model_validate(storage.read_json(told)) if storage.exists(told) else None
    write_report(folder, config, found, threshold, judges, overlaps, samples, cost)
    return {}


class _Answers:
    """A model's answers with the first judge's decisions, streamed; judges that run on models have done so by now."""

    def __init__(self, config: Config, generations: str, folder: str, report: JudgeReport) -> None:
        self._generations, self._report = generations, report
        self._decisions = decide(generations, config.evaluate.judges, folder, config.run.seed)

    def all_others(self) -> Iterator[tuple[Generation, Decision]]:
        """Those of no further decoding; all judges' decisions go into the report. Ones that failed come last."""
        return itertools.chain(
            self._stream(pc.field("decoding").is_null(), self._report.add), self._failed(pc.field("decoding").is_null())
        )

    def further(self) -> Iterator[tuple[Generation, Decision]]:
        """Those of further decodings, which nothing else of the report counts."""
        of_them = pc.field("decoding").is_valid()
        return itertools.chain(self._stream(of_them), self._failed(of_them))

    def _stream(
        self, which: pc.Expression, told: Callable[[JudgedAnswer], None] | None = None
    ) -> Iterator[tuple[Generation, Decision]]:
        for row in storage.stream_rows(self._generations, Generation, which & pc.field("error").is_null()):
            one = JudgedAnswer(row, self._decisions(row))
            if told is not None:
                told(one)
            yield row, one.decision

    def _failed(self, which: pc.Expression) -> Iterator[tuple[Generation, Decision]]:
        failed = storage.stream_rows(self._generations, Generation, which & pc.field("error").is_valid())
        return ((row, "unscored") for row in failed)


def _harm(config: Config, folder: str, model: str, prompts: SuitePrompts, report: JudgeReport) -> Harm | None:
    """What the graders of harm say of a model's answers."""
    generations, own = storage.join(folder, model, GENERATIONS), storage.join(folder, "judged", model, "harm")
    return judged_harm(generations, config.evaluate, prompts, own, config.run.seed, report)


def _generate(config: Config, model: str, folder: str, tokens: TokenCounter) -> str:
    """The base reads the export's head, too: what the head says of latents that were never aligned is a control."""
    settings, exported = config.evaluate, config.run_directory.folder("model")
    own = exported if model == "aligned" else None
    spec = ModelSpec(model_folder(config), config.model.dtype, own, exported, config.model.think)
    asked = tasks(settings, partial(suite_prompts, config.run_directory), config.run.seed, tokens)
    with with_row(spec, settings.engine, storage.join(folder, "with_row")) as readable:
        job = Job(
            model=readable,
            engine=settings.engine,
            decoding=dict.fromkeys(settings.cot, settings.decoding),
            workers=settings.workers,
            rows_per_block=settings.rows_per_block,
            seed=config.run.seed,
            decision=settings.decision,
            decodings={one.name: one for one in settings.named_decodings()},
        )
        return run_generation(asked, folder, job, f"evaluate {model}")
