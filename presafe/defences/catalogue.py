"""Every defence of a config: what it needs, what its scores depend on, how it reads, and from where on it refuses."""

from collections.abc import Callable, Iterable
from functools import partial

from presafe import reads, storage
from presafe.cluster.check import LOCAL_MODELS, check_cluster
from presafe.cluster.demand import demand
from presafe.config import Config
from presafe.config.defences import (
    ClassifierDefence,
    Defence,
    Guard,
    GuardClassifier,
    Perplexity,
    Probe,
    SmoothLLM,
)
from presafe.defences.arms import TEMPERATURE, Arm, read_arm
from presafe.defences.guard import check_guard, start_guard
from presafe.defences.job import SCORES, run_defence
from presafe.defences.perplexity import start_perplexity
from presafe.defences.probe import SIGNALS, check_probe, fitted_probe, layer_of, start_probe
from presafe.defences.score import Reader
from presafe.defences.sequence import (
    check_guard_classifier,
    own_classifier,
    start_guard_classifier,
    start_own_classifier,
)
from presafe.defences.smoothllm import start_smoothllm
from presafe.engines.card import read_card
from presafe.engines.exported import check_model
from presafe.engines.job import Task
from presafe.engines.start import ModelSpec
from presafe.runtime import model_folder

FOLDER = "defences"
"""Of stage `evaluate`, with a folder for each."""


def scores_of(settings: Defence) -> str:
    """Its rows, inside the stage's folder."""
    return storage.join(FOLDER, settings.name, SCORES)


def made_of(settings: Defence, config: Config) -> dict[str, object]:
    """The settings that shape its scores, as plain JSON."""
    own = settings.results()
    if isinstance(settings, Probe):
        own |= {"layer": layer_of(settings, config)}
    if isinstance(settings, ClassifierDefence):
        own |= {"max_tokens": config.signals.max_tokens}
    return {"defence": own, "model": config.model.results(), "seed": config.run.seed}


def read_by(settings: Defence, config: Config) -> dict[str, str]:
    """What its scores depend on beside the prompts."""
    match settings:
        case ClassifierDefence():
            return reads.files(config, "signals", "classifier", TEMPERATURE) | reads.base_model(config)
        case GuardClassifier() | Guard():
            return reads.named_model(config, f"defence {settings.name}", settings.model)
        case Probe():
            return reads.base_model(config) | reads.rows(config, "align", *SIGNALS)
        case SmoothLLM():
            return reads.base_model(config) | {"exported weights": reads.exported_weights(config.run_directory)}
        case Perplexity():
            return reads.base_model(config)


def check(settings: Defence, config: Config) -> None:
    """Raise UserError where the defence lacks what it reads with, or room on the connected cluster."""
    check_cluster(demand(f"defence {settings.name}", settings.workers), config.cluster, LOCAL_MODELS)
    match settings:
        case ClassifierDefence():
            own_classifier(config, f"defence {settings.name!r}")
        case GuardClassifier():
            check_guard_classifier(settings)
        case Guard():
            check_guard(settings)
        case Probe():
            check_model(model_folder(config), config.model.think)
            check_probe(settings, config)
        case SmoothLLM() | Perplexity():
            check_model(model_folder(config), config.model.think)


def score(settings: Defence, config: Config, tasks: Iterable[Task], folder: str) -> int:
    """Score all tasks in `folder`, resuming there; how many there are. The cluster is connected."""
    return run_defence(tasks, folder, settings, _start(settings, config, folder))


def arm_of(settings: Defence, config: Config) -> Arm:
    """A scored defence; without a threshold where none is given by nature: a perplexity knows none."""
    url = storage.join(config.run_directory.folder("evaluate"), scores_of(settings))
    return read_arm(url, settings.name, _threshold(settings, config))


def _threshold(settings: Defence, config: Config) -> float | None:
    match settings:
        case GuardClassifier() | Guard():
            return 0.0
        case Perplexity():
            return None
        case SmoothLLM(score="probability"):
            return read_card(config.run_directory.folder("model")).threshold
        case _:
            return 0.5


def _start(settings: Defence, config: Config, folder: str) -> Callable[[], Reader]:
    """What makes a worker's reader; what it needs is made here."""
    on_gpu = settings.workers.num_gpus > 0
    match settings:
        case ClassifierDefence():
            encoder = own_classifier(config, f"defence {settings.name!r}")
            temperature = storage.read_json(storage.join(config.run_directory.folder("signals"), TEMPERATURE))
            return partial(start_own_classifier, encoder, temperature, settings.batch_tokens, on_gpu=on_gpu)
        case GuardClassifier():
            return partial(start_guard_classifier, settings, on_gpu=on_gpu)
        case Guard():
            return partial(start_guard, settings, on_gpu=on_gpu)
        case Probe():
            spec = _base(config)
            probe = fitted_probe(settings, config, spec, folder)
            return partial(start_probe, settings, spec, probe, layer_of(settings, config), on_gpu=on_gpu)
        case SmoothLLM():
            exported = config.run_directory.folder("model")
            return partial(start_smoothllm, settings, exported, config.run.seed, on_gpu=on_gpu)
        case Perplexity():
            return partial(start_perplexity, settings, _base(config), on_gpu=on_gpu)


def _base(config: Config) -> ModelSpec:
    return ModelSpec(model_folder(config), config.model.dtype, think=config.model.think)
