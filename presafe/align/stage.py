"""Stage `align` (paper, Fig. 3, step 2): examples, training on Ray Train, and the exported model in `model/`."""

from collections import Counter
from collections.abc import Collection, Iterator
from functools import partial

from presafe import reads, storage
from presafe.align.examples import Sources, training_examples, validation_examples
from presafe.align.mixture import DEMONSTRATED, weights
from presafe.align.training import METRICS, TRAINED, Training
from presafe.config import Config
from presafe.engines.exported import load_tokenizer
from presafe.errors import user_error
from presafe.records import Demonstration, Example, Prompt, Signal, TeacherAnswer, Trace
from presafe.runtime import model_folder
from presafe.stages import Part, Rows, run_stage
from presafe.thinking import think_format

INPUTS = ("prompts", "teacher", "signals")
READY = "demonstrations.parquet"
"""Of stage `prompts`."""
CHOOSE = {
    "objective",
    "labels",
    "primer",
    "signal_batch_size",
    "micro_batch_tokens",
    "max_refuse_examples",
    "max_think_examples",
}
"""Settings that choose the examples."""
EXPORT = {"merge", "merge_gate"}
"""Settings of the export alone."""
TRAIN_TOO = {"objective", "primer", "signal_batch_size"}
"""Of CHOOSE, what the training reads as well."""
ELSEWHERE = {"demonstrations"}
"""Settings that stage `prompts` reads; their weights are the examples'."""


def run_align(config: Config, *, redo: Collection[str] = (), force: bool = False) -> None:
    """Run the stage; its output is examples.parquet, metrics.jsonl, checkpoints/ and the exported `model/`."""
    run_stage(config.run_directory, "align", parts(config), inputs=INPUTS, redo=redo, force=force)


def parts(config: Config) -> list[Part]:
    """Write the examples, train on them, export the model with its calibrated threshold."""
    align, common = config.align.results(), {"model": config.model.results(), "seed": config.run.seed}
    choosing = {name: value for name, value in align.items() if name in CHOOSE} | {"weights": weights(config)}
    training = {name: value for name, value in align.items() if name not in (CHOOSE | EXPORT | ELSEWHERE) - TRAIN_TOO}
    exporting = {name: value for name, value in align.items() if name in EXPORT}
    job = Training(config)
    base, signals = partial(reads.base_model, config), partial(reads.rows, config, "signals", "signals.parquet")

    def chosen_from() -> dict[str, str]:
        teacher = reads.rows(config, "teacher", "answers.parquet", "traces.parquet")
        ready = reads.rows(config, "prompts", READY) if config.align.demonstrations else {}
        return reads.training_prompts(config) | teacher | signals() | base() | ready

    def trained_on() -> dict[str, str]:
        return base() | reads.rows(config, "align", "examples.parquet")

    def exported_from() -> dict[str, str]:
        trained = reads.files(config, "align", METRICS)
        return trained | reads.rows(config, "align", "validation.parquet") | signals() | base()

    written = ("align/examples.parquet", "align/validation.parquet")
    trained = tuple(f"align/{name}" for name in TRAINED)
    return [
        Part("examples", {"align": choosing, **common}, chosen_from, partial(_write_examples, config), written),
        Part("train", {"align": training, **common}, trained_on, job.train, trained),
        Part("export", {"align": exporting, "gate": config.gate.results()}, exported_from, job.export, ()),
    ]


def _write_examples(config: Config, folder: str) -> Rows:
    run, base = config.run_directory, model_folder(config)
    think = think_format(load_tokenizer(base), config.model.think)
    prompts = storage.read_rows(storage.join(run.folder("prompts"), "prompts.parquet"), Prompt)
    found = storage.stream_rows(storage.join(run.folder("signals"), "signals.parquet"), Signal)
    signals = {row.prompt_id: row for row in found}
    teacher = run.folder("teacher")
    rows = storage.stream_rows(storage.join(teacher, "answers.parquet"), TeacherAnswer)
    answers = {row.prompt_id: row for row in rows if row.sample == 0}
    traces = {r.prompt_id: r for r in storage.stream_rows(storage.join(teacher, "traces.parquet"), Trace)}
    sources = Sources(answers, traces, signals)
    ready = list(_ready(config))
    examples, skipped = training_examples(
        prompts, sources, think, config.align, config.run.seed, weights(config), ready
    )
    source = {row.prompt_id: row.source for row in (*prompts, *ready)}
    demonstrated = Counter(source[example.prompt_id] for example in examples if example.completion)
    validation = validation_examples(prompts, signals, think, config.align.micro_batch_tokens)
    storage.write_rows(storage.join(folder, "examples.parquet"), examples, Example)
    storage.write_rows(storage.join(folder, "validation.parquet"), validation, Example)
    return {
        "refuse_examples": sum(example.path == "refuse" and bool(example.completion) for example in examples),
        "think_examples": sum(example.path == "think" and bool(example.completion) for example in examples),
        "signal_pool": sum(not example.completion for example in examples),
        "validation": len(validation),
        **{f"{DEMONSTRATED}{name}": count for name, count in sorted(demonstrated.items())},
        **{f"skipped, {reason}": count for reason, count in skipped.items()},
    }


def _ready(config: Config) -> Iterator[Demonstration]:
    """The ready demonstrations. Raises UserError where stage `prompts` has not gathered them."""
    if not config.align.demonstrations:
        return iter(())
    part = config.run_directory.part("prompts", "demonstrations")
    if part is None or not part["done"]:
        raise user_error(
            found=f"align.demonstrations that are not gathered in {config.run_directory.root}",
            needed="part prompts.demonstrations",
            change="run `presafe prompts` with the same config first",
        )
    return storage.stream_rows(storage.join(config.run_directory.folder("prompts"), READY), Demonstration)
