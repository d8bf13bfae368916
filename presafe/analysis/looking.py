"""One task: the base, then the aligned model, each looked into: weights, and hidden states of every layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from presafe import storage
from presafe.analysis.layers import Area, Probed, areas_by_layer, probed
from presafe.analysis.updates import Update, of_adapter, of_full_weights
from presafe.config import Analysis
from presafe.conversation import messages
from presafe.defences.states import device, last_states_of_layers, positions
from presafe.engines.card import read_card
from presafe.engines.exported import LoadedModel, load_base, load_exported
from presafe.engines.start import ModelSpec
from presafe.errors import user_error
from presafe.records import Prompt


@dataclass(frozen=True)
class Looked:
    """What is found: updates, areas by layer, and of each prompt that was tried its kind and its places.

    `planes` has by model and layer the places [m, 2] of these prompts, along the probe and across.
    """

    updates: list[Update]
    areas: list[Area]
    fitted: int
    kinds: list[str]
    planes: dict[str, list[list[tuple[float, float]]]]


def look(settings: Analysis, spec: ModelSpec, fitted: Sequence[Prompt], tried: Sequence[Prompt]) -> Looked:
    """Of harmful and benign prompts that probes are fitted to and tried on. One model is in memory at a time.

    Raises UserError where too few prompts fit the model's positions.
    """
    assert spec.exported is not None
    where = device(on_gpu=settings.worker.num_gpus > 0)
    base = load_base(spec.base, spec.dtype, where, spec.think)
    updates = _updates(base, spec.exported)
    of_base, shown = _probed(base, fitted, tried, settings)
    del base
    of_aligned, _ = _probed(load_exported(spec.exported, where), fitted, tried, settings)
    harmful = np.array([prompt.kind == "harmful" for prompt in shown])
    areas = [*areas_by_layer(of_base, of_aligned, harmful, [prompt.prompt_id for prompt in shown])]
    planes = {"base": [*map(_places, of_base)], "aligned": [*map(_places, of_aligned)]}
    return Looked(updates, areas, len(fitted), [prompt.kind for prompt in shown], planes)


def _updates(base: LoadedModel, exported: str) -> list[Update]:
    weights, trained = base.model.state_dict(), read_card(exported).weights
    local = storage.local_folder(storage.join(storage.absolute(exported), trained))
    return [*(of_full_weights if trained == "full" else of_adapter)(weights, local)]


def _probed(
    loaded: LoadedModel, fitted: Sequence[Prompt], tried: Sequence[Prompt], settings: Analysis
) -> tuple[list[Probed], list[Prompt]]:
    """A probe for each layer, and the prompts that they were tried on: those that fit the model's positions."""
    (known, ids), (shown, tried_ids) = (_readable(loaded, prompts) for prompts in (fitted, tried))
    for prompts, what in ((known, "align split"), (shown, "suites")):
        kinds = {prompt.kind for prompt in prompts}
        if kinds != {"harmful", "benign"}:
            raise user_error(
                found=f"prompts of the {what} that the model has positions for: {', '.join(sorted(kinds)) or 'none'}",
                needed="harmful and benign ones, which a probe tells apart",
                change="analyse a run that has both",
            )
    harmful = np.array([prompt.kind == "harmful" for prompt in known])
    states = last_states_of_layers(loaded.model, ids, settings.batch_tokens)
    new = last_states_of_layers(loaded.model, tried_ids, settings.batch_tokens)
    return [probed(one, harmful, other) for one, other in zip(states, new, strict=True)], shown


def _readable(loaded: LoadedModel, prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[list[int]]]:
    most, every = positions(loaded.model), [(one, loaded.format.prompt_ids(messages(one))) for one in prompts]
    short = [(one, ids) for one, ids in every if len(ids) <= most]
    return [one for one, _ in short], [ids for _, ids in short]


def _places(probe: Probed) -> list[tuple[float, float]]:
    return [*zip(probe.along.tolist(), probe.across.tolist(), strict=True)]
