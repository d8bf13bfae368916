"""Which weights vLLM loads, and where the decision is among their logits."""

from dataclasses import dataclass
from typing import Any

from presafe import storage
from presafe.config import Think
from presafe.decision.reader import DecisionReader
from presafe.engines.card import Card, read_card, reading_export
from presafe.engines.exported import split_adapter
from presafe.engines.model_files import local_weights
from presafe.errors import user_error
from presafe.thinking import ThinkFormat

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM lays out memory for."""
NO_HEAD = DecisionReader(None, 0.0, None, ())


@dataclass(frozen=True)
class VllmModel:
    """`weights` is the model's folder, `adapter` what is put on it; `tokenizer` the folder or hub name of that."""

    weights: str
    adapter: str | None
    tokenizer: str
    dtype: str
    think: Think | None = None
    reader: DecisionReader = NO_HEAD


def plain_model(folder: str, dtype: str, think: Think | None = None) -> VllmModel:
    """A model, or a PEFT adapter on its base, without a head."""
    base, adapter = split_adapter(folder)
    local = None if adapter is None else storage.local_folder(adapter)
    return VllmModel(local_weights(base), local, folder, dtype, think)


def exported_model(folder: str, card: Card, think: ThinkFormat) -> VllmModel:
    """An export with its head. Raises UserError where it lacks the weights that vLLM needs."""
    if card.head.kind == "linear" and card.head.layer == -1:
        return model_with_row(storage.join(folder, "merged-gate"), card)
    token = think.decision_token if card.head.kind == "readout" else None
    reader = DecisionReader(None, 0.0, token, ())
    with reading_export(folder):
        for name in ("full", "merged"):
            whole = storage.join(folder, name)
            if storage.exists(whole):
                local = local_weights(whole)
                return VllmModel(local, None, local, card.dtype, card.think, reader)
        adapter = storage.local_folder(storage.join(folder, "adapter"))
        return VllmModel(local_weights(card.base_model), adapter, card.base_model, card.dtype, card.think, reader)


def exported_without_head(folder: str, card: Card) -> VllmModel:
    """An export's own text: an adapter on its card's base, or a model of its own."""
    with reading_export(folder):
        if card.weights == "full":
            full = local_weights(storage.join(storage.absolute(folder), "full"))
            return VllmModel(full, None, full, card.dtype, card.think)
        adapter = storage.local_folder(storage.join(storage.absolute(folder), "adapter"))
        return VllmModel(local_weights(card.base_model), adapter, card.base_model, card.dtype, card.think)


def model_with_row(folder: str, card: Card) -> VllmModel:
    """Weights in `folder` with a linear head as a row of the vocabulary, which the card beside them tells."""
    row = read_card(folder).vocabulary_row if storage.exists(folder) else None
    if row is None:
        raise user_error(
            found=f"an export with a linear head but without {folder}",
            needed="the head as a row of the vocabulary: vLLM shows no hidden states",
            change="export it again with align.merge_gate=true, or take engine transformers (of a job, `paged`)",
        )
    with reading_export(folder):
        local = local_weights(folder)
    reader = DecisionReader(row.token_id, row.bias, None, tuple(row.suppressed))
    return VllmModel(local, None, local, card.dtype, card.think, reader)


def import_vllm() -> Any:
    """The package. Raises UserError where it is missing."""
    try:
        import vllm
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise
        raise user_error(
            found="an engine of kind `vllm` on a worker without vLLM",
            needed="the package vllm",
            change="pip install 'presafe[vllm]' on every worker",
        ) from error
    return vllm


def lora_rank(adapter: str) -> int:
    """The smallest rank of vLLM's that holds all of the adapter's."""
    config = storage.read_json(storage.join(adapter, "adapter_config.json"))
    largest = max([config["r"], *config.get("rank_pattern", {}).values()])
    fitting = [rank for rank in LORA_RANKS if rank >= largest]
    if not fitting:
        raise user_error(
            found=f"an adapter of rank {largest} in {adapter}",
            needed=f"at most {LORA_RANKS[-1]}, which is what vLLM takes",
            change="merge it into its base",
        )
    return fitting[0]
