"""A probe on the base, which nobody aligned: logistic regression on its hidden state at the prompt's last token."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import ray
from scipy.special import expit  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from transformers import AutoConfig

from presafe import storage
from presafe.cluster.options import actor_options
from presafe.config import Config, LinearHead
from presafe.config.defences import Probe
from presafe.conversation import messages
from presafe.defences.score import Reader, Reading, unreadable
from presafe.defences.states import device, last_states, positions
from presafe.engines.exported import load_base, split_adapter
from presafe.engines.job import Task
from presafe.engines.model_files import local_texts
from presafe.engines.start import ModelSpec
from presafe.errors import UserError, user_error
from presafe.runtime import model_folder, user_errors

FloatArray = npt.NDArray[np.float64]
SIGNALS = ("examples.parquet", "validation.parquet")
"""Of stage `align`: what its signals were trained on, and the validation split's."""
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Of scikit-learn's C, the inverse of the regularisation."""


@dataclass(frozen=True)
class FittedProbe:
    """log-odds of refusal = weight . state + bias; `c` is the C that had the lowest loss, cross-entropy in nats, on the
    validation split's signals; `losses` are those of `STRENGTHS`."""

    weight: list[float]
    bias: float
    c: float
    losses: list[float]
    prompts: int
    validation: int


def layer_of(settings: Probe, config: Config) -> int:
    """The layer that it reads: its own, or that of the alignment's head."""
    if settings.layer is not None:
        return settings.layer
    return config.align.head.layer if isinstance(config.align.head, LinearHead) else -1


def check_probe(settings: Probe, config: Config) -> None:
    """Raise UserError where the alignment has no signals to fit to, or the base no such layer."""
    for name in SIGNALS:
        url = storage.join(config.run_directory.folder("align"), name)
        if not storage.exists(url) or not storage.count_rows(url, pc.field("refuse_probability").is_valid()):
            raise user_error(
                found=f"no signal in {url} for defence {settings.name!r}",
                needed="prompts with signals, those that the alignment was trained on and some of the validation split",
                change="run `presafe align` with the same config first, or leave the defence out",
            )
    layer, base = layer_of(settings, config), split_adapter(model_folder(config))[0]
    layers = AutoConfig.from_pretrained(local_texts(base)).get_text_config().num_hidden_layers
    if layer != -1 and not 1 <= layer <= layers:
        raise user_error(
            found=f"layer {layer} of defence {settings.name!r}",
            needed=f"1 to {layers}, the layers of {base}, or -1",
            change="correct it",
        )


def fitted_probe(settings: Probe, config: Config, spec: ModelSpec, folder: str) -> FittedProbe:
    """The probe in `folder`, fitted by a task on a node of the cluster where it is not there yet."""
    url = storage.join(folder, "probe.json")
    if not storage.exists(url):
        align = config.run_directory.folder("align")
        training, validation = (storage.join(align, name) for name in SIGNALS)
        task = ray.remote(_fit).options(**actor_options(settings.workers))
        with user_errors():
            found = ray.get(task.remote(settings, layer_of(settings, config), spec, training, validation))
        storage.write_json(url, asdict(found))
    return FittedProbe(**storage.read_json(url))


def fit(states: FloatArray, signals: FloatArray, held_out: FloatArray, wanted: FloatArray) -> FittedProbe:
    """To states [n, D] and their signals [n]; `held_out` [m, D] and `wanted` [m] choose the regularisation.

    A signal p is a refusal of weight p and compliance of weight 1 - p. States are scaled to unit variance.
    """
    scaler = StandardScaler().fit(states)
    inputs, labels = np.tile(scaler.transform(states), (2, 1)), np.repeat([1, 0], len(states))
    weights = np.concatenate([signals, 1 - signals])
    models = [LogisticRegression(C=c, max_iter=2000).fit(inputs, labels, sample_weight=weights) for c in STRENGTHS]
    losses = [_loss(model.decision_function(scaler.transform(held_out)), wanted) for model in models]
    best = int(np.argmin(losses))
    weight = models[best].coef_[0] / scaler.scale_
    bias = float(models[best].intercept_[0] - weight @ scaler.mean_)
    return FittedProbe(weight.tolist(), bias, STRENGTHS[best], losses, len(states), len(held_out))


def start_probe(settings: Probe, spec: ModelSpec, probe: FittedProbe, layer: int, *, on_gpu: bool) -> Reader:
    """Reads one forward pass of the base a conversation; the score is the probability of refusal."""
    loaded = load_base(spec.base, spec.dtype, device(on_gpu=on_gpu), spec.think)
    weight, most = np.array(probe.weight), positions(loaded.model)

    def read(tasks: Sequence[Task]) -> list[Reading]:
        done: dict[int, Reading] = {}
        prompts: dict[int, list[int]] = {}
        for place, task in enumerate(tasks):
            try:
                ids = loaded.format.prompt_ids(messages(task))
            except UserError as error:  # what one prompt makes of the template costs no other
                done[place] = unreadable(str(error))
                continue
            if len(ids) > most:
                done[place] = unreadable(f"prompt of {len(ids)} tokens; the base has {most} positions")
            else:
                prompts[place] = ids
        if prompts:
            states = _states(loaded.model, [*prompts.values()], settings.batch_tokens, layer)
            found = expit(states @ weight + probe.bias)
            done |= {place: Reading(float(p), len(prompts[place])) for place, p in zip(prompts, found, strict=True)}
        return [done[place] for place in range(len(tasks))]

    return read


def _fit(settings: Probe, layer: int, spec: ModelSpec, training: str, validation: str) -> FittedProbe:
    on_gpu = settings.workers.num_gpus > 0
    model = load_base(spec.base, spec.dtype, device(on_gpu=on_gpu), spec.think).model
    found = list[FloatArray]()
    for url in (training, validation):
        prompts, signals = _signals(url)
        found += [_states(model, prompts, settings.batch_tokens, layer), signals]
    return fit(*found)


def _loss(log_odds: FloatArray, signals: FloatArray) -> float:
    """Cross-entropy of the signals, in nats a prompt."""
    return float((np.logaddexp(0, log_odds) - signals * log_odds).mean())


def _signals(url: str) -> tuple[list[list[int]], FloatArray]:
    """Prompts with a signal, as token ids, and the signals."""
    prompts, signals = list[list[int]](), list[float]()
    columns, known = ["prompt", "refuse_probability"], pc.field("refuse_probability").is_valid()
    for table in storage.stream_tables(url, columns, known):
        prompts += table["prompt"].to_pylist()
        signals += table["refuse_probability"].to_pylist()
    return prompts, np.array(signals)


def _states(model: Any, prompts: Sequence[Sequence[int]], most: int, layer: int) -> FloatArray:
    found: FloatArray = last_states(model, prompts, most, layer).double().cpu().numpy()
    return found
