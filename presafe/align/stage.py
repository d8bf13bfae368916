"""Stage `align` (paper, Fig. 3, step 2): examples, training on Ray Train, and the exported model in `model/`."""

from collections.abc import Collection
from functools import partial

from presafe import reads, storage
from presafe.align.examples.choose import SCRATCH, write_examples
from presafe.align.examples.mixture import weights
from presafe.align.train.training import METRICS, TRAINED, Training
from presafe.config import Config
from presafe.errors import user_error
from presafe.stages import Part, Rows, run_stage

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
    "forms",
    "forms_per_prompt",
}
"""Settings that choose the examples."""
EXPORT = {"merge", "merge_gate"}
"""Settings of the export alone."""
TRAIN_TOO = {"objective", "primer", "signal_batch_size"}
"""Of CHOOSE, what the training reads as well."""
ELSEWHERE = {"demonstrations", "seed"}
"""Settings that stage `prompts` reads, whose weights are the examples'; and the seed, which all parts have."""


def run_align(config: Config, *, redo: Collection[str] = (), force: bool = False) -> None:
    """Run the stage; its output is examples.parquet, metrics.jsonl, checkpoints/ and the exported `model/`."""
    run_stage(config.run_directory, "align", parts(config), inputs=INPUTS, redo=redo, force=force)


def parts(config: Config) -> list[Part]:
    """Write the examples, train on them, export the model with its calibrated threshold."""
    align, common = config.align.results(), {"model": config.model.results(), "seed": config.align_seed}
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

    written = ("align/examples.parquet", "align/validation.parquet", f"align/{SCRATCH}")
    trained = tuple(f"align/{name}" for name in TRAINED)
    return [
        Part("examples", {"align": choosing, **common}, chosen_from, partial(_write_examples, config), written),
        Part("train", {"align": training, **common}, trained_on, job.train, trained),
        Part("export", {"align": exporting, "gate": config.gate.results()}, exported_from, job.export, ()),
    ]


def _write_examples(config: Config, folder: str) -> Rows:
    """Raises UserError where ready demonstrations are configured that stage `prompts` has not gathered."""
    if not config.align.demonstrations:
        return write_examples(config, folder, None)
    part = config.run_directory.part("prompts", "demonstrations")
    if part is None or not part["done"]:
        raise user_error(
            found=f"align.demonstrations that are not gathered in {config.run_directory.root}",
            needed="part prompts.demonstrations",
            change="run `presafe prompts` with the same config first",
        )
    return write_examples(config, folder, storage.join(config.run_directory.folder("prompts"), READY))
