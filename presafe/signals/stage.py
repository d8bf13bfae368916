"""Stage `signals` (paper, Fig. 3, step 1): `signals.parquet` with p_j = P(refuse | query_j), and what it is worth.

The driver holds the texts of the classifier's training and validation rows alone; all others stream.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from presafe import reads, storage
from presafe.cluster.check import LOCAL_MODELS, check_cluster
from presafe.cluster.demand import demand
from presafe.config import BuiltEncoder, Config, FreshEncoder
from presafe.errors import user_error
from presafe.figures import as_svg
from presafe.records import Prompt, Signal, TeacherAnswer
from presafe.runtime import built, connect, model_folder
from presafe.signals import report
from presafe.signals.baselines import PromptText, baseline_logits
from presafe.signals.classifier import OWN_MODEL, EncoderSpec, check_encoder, encoder_spec
from presafe.signals.labels import UNANSWERED, TeacherVerdict, verdicts
from presafe.signals.loss import Labelled
from presafe.signals.metrics import fit_temperature, probabilities
from presafe.signals.parts import labelled, split_by_cluster, training_parts
from presafe.signals.plots import reliability_figure
from presafe.signals.render import markdown, suites_markdown
from presafe.signals.scoring import Score, score_prompts
from presafe.signals.sources import both_decisions, leave_one_source_out
from presafe.signals.train import train_classifier
from presafe.stages import Part, Rows, run_stage
from presafe.suites import suite_prompts

INPUTS = ("prompts", "teacher")
REPORTED = ("leave_one_source_out", "baselines")
"""Settings of the report alone."""


def run_signals(config: Config, *, redo: Collection[str] = (), force: bool = False) -> None:
    """Run the stage; its output is signals.parquet (Signal), classifier/, and the reports on validation and suites."""
    run_stage(config.run_directory, "signals", parts(config), inputs=INPUTS, redo=redo, force=force)


def parts(config: Config) -> list[Part]:
    """Train the classifier, score the prompts for training, report on validation, and on the suites."""
    settings = config.signals.results()
    reporting = {name: settings.pop(name) for name in REPORTED}
    own = {"signals": settings, "seed": config.run.seed}
    answers = partial(reads.rows, config, "teacher", "answers.parquet")

    def trained_on() -> dict[str, str]:
        return reads.training_prompts(config) | answers() | _encoder_content(config)

    def scored() -> dict[str, str]:
        return reads.training_prompts(config) | answers() | reads.files(config, "signals", "classifier")

    def reported() -> dict[str, str]:
        return (
            scored()
            | reads.files(config, "prompts", "wrappers.json")
            | reads.rows(config, "teacher", "answers_cot_on.parquet")
            | _encoder_content(config)
        )

    def flagged() -> dict[str, str]:
        rows = reads.rows(config, "signals", "labelled.parquet") | reads.suite_prompts(config)
        return rows | reads.files(config, "signals", "classifier") | _encoder_content(config)

    training = ("classifier", "training", "labelled.parquet", "stopping.parquet", "progress.json", "training.json")
    scoring = ("scores", "temperature.json", "signals.parquet")
    report_files = ("report.json", "report.md", "reliability.svg", "held_out.parquet")
    suite_files = ("suites.json", "suites.md", "suite_scores", "suites.parquet")
    return [
        Part("train", own, trained_on, partial(_train, config), _inside(training)),
        Part("score", {"max_tokens": config.signals.max_tokens}, scored, partial(_score, config), _inside(scoring)),
        Part("report", own | {"report": reporting}, reported, partial(_report, config), _inside(report_files)),
        Part(
            "suites",
            own | {"baselines": config.signals.baselines},
            flagged,
            partial(_suites, config),
            _inside(suite_files),
        ),
    ]


def _inside(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"signals/{name}" for name in names)


def _encoder_content(config: Config) -> dict[str, str]:
    """The encoder, where it is a folder or of the hub; the model to align, where weights or tokenizer are its."""
    encoder = config.signals.encoder
    if isinstance(encoder, BuiltEncoder):
        return {}
    if isinstance(encoder, str) and encoder != OWN_MODEL:
        return reads.named_model(config, "encoder", encoder)
    return reads.base_model(config)


@dataclass(frozen=True)
class Inputs:
    """What the stage reads, and where it works."""

    config: Config
    folder: str
    spec: EncoderSpec
    verdicts: dict[str, TeacherVerdict]

    @property
    def prompt_file(self) -> str:
        return storage.join(self.config.run_directory.folder("prompts"), "prompts.parquet")

    @property
    def classifier(self) -> str:
        return storage.join(self.folder, "classifier")

    @property
    def scores(self) -> str:
        """Score rows of the prompts for training."""
        return storage.join(self.folder, "scores", "logits")

    def prompts(self) -> Iterator[Prompt]:
        return storage.stream_rows(self.prompt_file, Prompt)


def _inputs(config: Config, folder: str) -> Inputs:
    connect(config.cluster)
    check_cluster(demand("signals", config.signals.workers), config.cluster, LOCAL_MODELS)
    answers = storage.join(config.run_directory.folder("teacher"), "answers.parquet")
    return Inputs(config, folder, chosen_encoder(config), verdicts(storage.stream_rows(answers, TeacherAnswer)))


def _train(config: Config, folder: str) -> Rows:
    inputs = _inputs(config, folder)
    check_encoder(inputs.spec)
    training, stopping = training_parts(inputs.prompts(), inputs.verdicts, config.signals)
    _check_both_decisions(training)
    trained = train_classifier(training, stopping, folder, inputs.spec, config.signals, config.run.seed)
    figures = {
        "rows": len(training),
        "stopping_rows": len(stopping),
        "stopping_losses": trained.losses,
        "best_epoch": trained.best_epoch,
    }
    storage.write_json(storage.join(folder, "training.json"), figures)
    return {"classifier_training": len(training)}


def _score(config: Config, folder: str) -> Rows:
    """Logits of the prompts for training, the temperature, and the signals."""
    inputs = _inputs(config, folder)
    texts = storage.join(folder, "scores", "texts.parquet")
    storage.write_rows(texts, (PromptText.of(p) for p in inputs.prompts()), PromptText)
    logits = score_prompts(texts, inputs.classifier, inputs.scores, inputs.spec, config.signals.workers)
    fitting, _ = split_by_cluster(_held_out(inputs, logits), 0.5)
    temperature = fit_temperature([row.logit for row in fitting], [row.verdict.refuse_share or 0.0 for row in fitting])
    storage.write_json(storage.join(folder, "temperature.json"), temperature)
    seen = {
        row.prompt_id
        for name in ("labelled.parquet", "stopping.parquet")
        for row in storage.stream_rows(storage.join(folder, name), Labelled)
    }
    signals = storage.join(folder, "signals.parquet")
    return {"signals": storage.write_rows(signals, _signal_rows(inputs, logits, temperature, seen), Signal)}


def _report(config: Config, folder: str) -> Rows:
    inputs = _inputs(config, folder)
    logits = {row.prompt_id: row.logit for row in storage.stream_rows(inputs.scores, Score)}
    held_out = _held_out(inputs, logits)
    _, reporting = split_by_cluster(held_out, 0.5)
    temperature = storage.read_json(storage.join(folder, "temperature.json"))
    training, stopping = training_parts(inputs.prompts(), inputs.verdicts, config.signals)
    figures = {
        "encoder": _name(config.signals.encoder),
        "split": "the half of validation that has not fitted the temperature",
        "training": storage.read_json(storage.join(folder, "training.json")),
        **report.quality(reporting, temperature),
        "confusion": report.confusion(held_out),
        "held_out_wrappers": report.agreement(_in_held_out_wrappers(inputs, held_out)),
        "cot_on": report.agreement(_with_cot_on(inputs, held_out)),
        "teacher": _teacher(inputs),
        "baselines": _baselines(inputs, reporting) if config.signals.baselines else {},
        "leave_one_source_out": _left_out(inputs, training, stopping) if config.signals.leave_one_source_out else [],
    }
    storage.write_json(storage.join(folder, "report.json"), figures)
    storage.write_text(storage.join(folder, "report.md"), markdown(figures))
    plot = reliability_figure([row.logit for row in reporting], [row.label for row in reporting], temperature)
    storage.write_text(storage.join(folder, "reliability.svg"), as_svg(plot))
    return {"validation": len(held_out)}


def _suites(config: Config, folder: str) -> Rows:
    """The classifier and the baselines on the suites, in a report of their own: a further suite costs itself alone."""
    inputs = _inputs(config, folder)
    prompts = list(suite_prompts(config.run_directory))
    texts = storage.join(folder, "suites.parquet")
    storage.write_rows(texts, (PromptText.of(prompt) for prompt in prompts), PromptText)
    output = storage.join(folder, "suite_scores")
    scores = {"classifier": score_prompts(texts, inputs.classifier, output, inputs.spec, config.signals.workers)}
    if config.signals.baselines:
        training = storage.join(folder, "labelled.parquet")
        scores |= baseline_logits(training, texts, inputs.spec, config.signals.workers)
    figures = {
        name: report.suites((p.source, p.kind, logits[p.prompt_id]) for p in prompts) for name, logits in scores.items()
    }
    storage.write_json(storage.join(folder, "suites.json"), figures)
    storage.write_text(storage.join(folder, "suites.md"), suites_markdown(figures))
    return {"suite_prompts": len(prompts)}


def _held_out(inputs: Inputs, logits: dict[str, float]) -> list[report.Scored]:
    """Scored prompts of the validation split that the teacher has decided."""
    return [row for row in _scored(inputs, logits, "validation") if row.verdict.decision != "unscored"]


def chosen_encoder(config: Config) -> EncoderSpec:
    """The encoder of the config, built or found in the model cache where a function builds it."""
    encoder = config.signals.encoder
    if isinstance(encoder, BuiltEncoder):
        encoder = built(config, encoder.build, encoder.build_options)
    return encoder_spec(encoder, model_folder(config), config.signals.max_tokens)


def _name(encoder: str | BuiltEncoder | FreshEncoder) -> str:
    return encoder.build if isinstance(encoder, BuiltEncoder) else str(encoder)


def _signal_rows(inputs: Inputs, logits: dict[str, float], temperature: float, seen: set[str]) -> Iterator[Signal]:
    for prompt in inputs.prompts():
        own = prompt.prompt_id
        verdict = inputs.verdicts.get(own, UNANSWERED)
        probability = probabilities([logits[own]], temperature)[0]
        yield Signal(own, probability, verdict.decision, verdict.refuse_share, own in seen)


def _scored(inputs: Inputs, logits: dict[str, float], split: str) -> list[report.Scored]:
    return [
        report.Scored(
            prompt.prompt_id,
            prompt.cluster,
            prompt.kind,
            prompt.source,
            prompt.wrapper,
            logits[prompt.prompt_id],
            inputs.verdicts.get(prompt.prompt_id, UNANSWERED),
        )
        for prompt in inputs.prompts()
        if prompt.split == split
    ]


def _teacher(inputs: Inputs) -> dict[str, Any]:
    return report.teacher_figures(
        (prompt.kind, prompt.source, inputs.verdicts.get(prompt.prompt_id, UNANSWERED)) for prompt in inputs.prompts()
    )


def _in_held_out_wrappers(inputs: Inputs, rows: Sequence[report.Scored]) -> list[report.Scored]:
    """Those of `rows` inside a template that no training prompt stands in; none without wrappers."""
    path = storage.join(inputs.config.run_directory.folder("prompts"), "wrappers.json")
    templates = storage.read_json(path) if storage.exists(path) else []
    held_out = {template["template_id"] for template in templates if template["held_out"]}
    return [row for row in rows if row.wrapper in held_out]


def _with_cot_on(inputs: Inputs, rows: Sequence[report.Scored]) -> list[report.Scored]:
    """`rows` with the model's own CoT-ON decisions instead of the teacher's; none where the teacher stage took none."""
    path = storage.join(inputs.config.run_directory.folder("teacher"), "answers_cot_on.parquet")
    if not storage.exists(path):
        return []
    decided = verdicts(storage.stream_rows(path, TeacherAnswer))
    return [
        report.with_verdict(row, decided[row.prompt_id])
        for row in rows
        if decided.get(row.prompt_id, UNANSWERED).decision != "unscored"
    ]


def _baselines(inputs: Inputs, reporting: Sequence[report.Scored]) -> dict[str, Any]:
    file = storage.join(inputs.folder, "held_out.parquet")
    held_out = (p for p in inputs.prompts() if p.split == "validation")
    storage.write_rows(file, (PromptText.of(p) for p in held_out), PromptText)
    training = storage.join(inputs.folder, "labelled.parquet")
    scores = baseline_logits(training, file, inputs.spec, inputs.config.signals.workers)
    return {
        name: report.quality([report.with_logit(row, logits[row.prompt_id]) for row in reporting], 1.0)
        for name, logits in scores.items()
    }


def _left_out(inputs: Inputs, training: list[Labelled], stopping: list[Labelled]) -> list[dict[str, Any]]:
    validation = (prompt for prompt in inputs.prompts() if prompt.split == "validation")
    held_out = labelled(validation, inputs.verdicts)
    settings, seed = inputs.config.signals, inputs.config.run.seed
    return leave_one_source_out(training, stopping, held_out, inputs.folder, inputs.spec, settings, seed)


def _check_both_decisions(rows: Sequence[Labelled]) -> None:
    if not both_decisions(rows):
        refusals = sum(row.label >= 0.5 for row in rows)
        raise user_error(
            found=f"{refusals} refusals among {len(rows)} teacher decisions of the classifier's training rows",
            needed="refusals and compliances, else there is nothing to learn",
            change="add harmful or benign prompts, or check the judge on teacher/answers.parquet",
        )
