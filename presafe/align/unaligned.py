"""Stage `align` of an arm that is not aligned: a card alone, by which an evaluation reads the base's own decision."""

from collections.abc import Collection
from functools import partial

from presafe import reads
from presafe.align.train.training import card_before
from presafe.config import Config
from presafe.engines.card import HeadCard, write_card
from presafe.engines.exported import load_tokenizer
from presafe.runtime import model_folder
from presafe.stages import Part, Rows, run_stage
from presafe.thinking import think_format


def run_unaligned(config: Config, *, redo: Collection[str] = ()) -> None:
    """Finish the stage without training: `model/` has no weights, so that `evaluate.models` is to be [base].

    Its p' is the readout head's, the model's own probability of Path A, which needs none.
    """
    run_stage(config.run_directory, "align", parts(config), inputs=("prompts",), redo=redo)


def parts(config: Config) -> list[Part]:
    """Write the card."""
    settings = {"model": config.model.results(), "gate": config.gate.results()}
    return [Part("unaligned", settings, partial(reads.base_model, config), partial(_write, config), ("model",))]


def _write(config: Config, _: str) -> Rows:
    base = model_folder(config)
    card = card_before(config, base, think_format(load_tokenizer(base), config.model.think), [])
    own = {"head": HeadCard(kind="readout"), "training": {}, "data": {}}
    write_card(config.run_directory.folder("model"), card.model_copy(update=own))
    return {}
