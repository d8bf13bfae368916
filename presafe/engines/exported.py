"""Models on disk and in memory: a base, or an exported model (`model/` of a run) with its adapter, head and card."""

from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from presafe import storage
from presafe.config import Think
from presafe.decision.head import SafetyHead, load_head
from presafe.decision.prefill import HeadReader
from presafe.engines.card import Card, HeadCard, read_card, reading_export
from presafe.engines.model_files import check_texts, check_weights, local_texts, local_weights
from presafe.engines.tokenizer_check import check_ids, check_round_trip, reads_back
from presafe.errors import UserError, user_error
from presafe.thinking import ThinkFormat, think_format

SHARD = "5GB"
"""Of a model's weights on disk."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to generate. `card` is None for a plain base model, `head` for a readout head's export too."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    format: ThinkFormat
    head: SafetyHead | None
    card: Card | None

    @property
    def reader(self) -> HeadReader | None:
        """What reads the gate's probability off this model; None for a plain base model."""
        return None if self.card is None else HeadReader(self.card.head, self.head, self.format)

    @property
    def stop_ids(self) -> frozenset[int]:
        return _stop_ids(self.tokenizer, self.model.generation_config) | {self.format.end_id}


def load_base(folder: str, dtype: str, device: str = "cpu", think: Think | None = None) -> LoadedModel:
    """A plain model in evaluation mode, or a PEFT adapter merged into its base. Raises UserError for anything else.

    `think` is what the config says of the think format, where the chat template does not show it.
    """
    tokenizer = load_tokenizer(folder)
    base, adapter = split_adapter(folder)
    model = _load_weights(base, dtype).to(device)
    if adapter is not None:
        model = _merged(model, storage.local_folder(adapter))
    found = think_format(tokenizer, think)
    check_ids(found, model.get_input_embeddings().num_embeddings, folder)
    return LoadedModel(model.eval(), tokenizer, found, None, None)


def save_loaded(loaded: LoadedModel, folder: str) -> None:
    """Weights and tokenizer, as a plain model's folder."""
    loaded.model.save_pretrained(folder, max_shard_size=SHARD)
    loaded.tokenizer.save_pretrained(folder)


def load_exported(folder: str, device: str = "cpu") -> LoadedModel:
    """An exported model: its base with the adapter merged in, or all its own weights; its head and its card."""
    with reading_export(folder) as card:
        head = load_probe(storage.absolute(folder), card.head, device)
        if card.weights == "full":
            full = load_base(storage.join(folder, "full"), card.dtype, device, card.think)
            return LoadedModel(full.model, full.tokenizer, full.format, head, card)
        base = load_base(card.base_model, card.dtype, device, card.think)
        merged = _merged(base.model, storage.local_folder(storage.join(folder, "adapter")))
        return LoadedModel(merged.eval(), base.tokenizer, base.format, head, card)


def load_probe(folder: str, head: HeadCard, device: str = "cpu") -> SafetyHead | None:
    """The head's weights in the folder of an exported model; a readout head has none."""
    if head.kind == "readout":
        return None
    return load_head(storage.local_file(storage.join(folder, "safety_head.safetensors"))).to(device)


def load_reader(folder: str, think: ThinkFormat, device: str = "cpu") -> HeadReader:
    """The head of the exported model in `folder`, to be read off any model with the same think format."""
    head = read_card(folder).head
    return HeadReader(head, load_probe(storage.absolute(folder), head, device), think)


def split_adapter(folder: str) -> tuple[str, str | None]:
    """The base and the adapter of a PEFT adapter's folder; a model's folder is its own base, without adapter."""
    path = storage.join(folder, "adapter_config.json")
    if not storage.exists(path):
        return folder, None
    base = storage.read_json(path).get("base_model_name_or_path")
    if not base:
        raise user_error(
            found=f"{path} without base_model_name_or_path",
            needed="the model that the adapter belongs to",
            change="name its folder or hub name there",
        )
    return str(base), folder


def stop_ids(folder: str) -> frozenset[int]:
    """The ids that end a completion of the model or adapter in `folder`, without loading its weights."""
    base = local_texts(split_adapter(folder)[0])
    try:
        generation = GenerationConfig.from_pretrained(base)
    except OSError:  # a model without a generation config: transformers takes the ids from the model's own
        generation = GenerationConfig.from_model_config(AutoConfig.from_pretrained(base))
    return _stop_ids(load_tokenizer(folder), generation)


def check_model(folder: str, think: Think | None = None) -> ThinkFormat:
    """The think format of the model in `folder`, or of the adapter and its base, without loading their weights.

    Raises UserError where tokenizer, template, configuration or weights are missing: an error that a driver finds here
    is one sentence, and the same error in an actor is a stack trace.
    """
    found = think_format(load_tokenizer(folder), think)
    base, _ = split_adapter(folder)
    check_ids(found, embedding_rows(base), folder)
    for place in dict.fromkeys((base, folder)):
        check_weights(place)
    return found


def embedding_rows(base: str) -> int | None:
    """Token ids that the model's configuration has room for. Raises UserError where there is no configuration."""
    local = local_texts(base)
    try:
        config = AutoConfig.from_pretrained(local)
    except (OSError, ValueError) as error:
        raise _unloadable(base, "configuration", error) from error
    rows: int | None = getattr(config.get_text_config(), "vocab_size", None)
    return rows


def positions(folder: str) -> int:
    """Positions of the model in `folder`."""
    config = AutoConfig.from_pretrained(local_texts(folder)).get_text_config()
    return int(config.max_position_embeddings)


def load_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    """The tokenizer beside a model; an adapter's own where its folder has one, else its base's.

    Raises UserError where it does not load, or does not read its own texts back.
    """
    if not storage.exists(storage.join(folder, "tokenizer_config.json")):
        folder, _ = split_adapter(folder)
    check_texts(folder)
    tokenizer = _read_tokenizer(AutoTokenizer, folder)
    if not reads_back(tokenizer):
        # transformers 5.16 to 5.21 rebuild a byte-level tokenizer that is labelled LlamaTokenizer, and lose its spaces;
        # this class takes tokenizer.json as it is.
        tokenizer = _read_tokenizer(PreTrainedTokenizerFast, folder)
    check_round_trip(tokenizer, folder)
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _read_tokenizer(kind: Any, folder: str) -> PreTrainedTokenizerBase:
    local = local_texts(folder)
    try:
        tokenizer = kind.from_pretrained(local, padding_side="left")
    except (OSError, ValueError) as error:
        raise _unloadable(folder, "tokenizer", error) from error
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def _load_weights(folder: str, dtype: str) -> Any:
    local = local_weights(folder)
    try:
        return AutoModelForCausalLM.from_pretrained(local, dtype=getattr(torch, dtype))
    except (OSError, ValueError) as error:
        raise _unloadable(folder, "model", error) from error


def _merged(model: Any, adapter: str) -> Any:
    try:
        return PeftModel.from_pretrained(model, adapter).merge_and_unload()
    except (OSError, ValueError, RuntimeError) as error:  # a shape that is not the base's is a RuntimeError
        raise _unloadable(adapter, "adapter", error) from error


def _stop_ids(tokenizer: PreTrainedTokenizerBase, generation: GenerationConfig) -> frozenset[int]:
    """The tokenizer's end of sequence, and those that the model's own generation config adds."""
    own = generation.eos_token_id
    listed = own if isinstance(own, list) else [own]
    return frozenset(i for i in [tokenizer.eos_token_id, *listed] if isinstance(i, int))


def _unloadable(folder: str, what: str, error: Exception) -> UserError:
    first_line = str(error).strip().splitlines()[0]
    return user_error(
        found=f"no loadable {what} at {folder} ({first_line})",
        needed="a Hugging Face causal language model with its tokenizer",
        change="correct model.path",
    )
