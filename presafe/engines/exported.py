"""Models on disk and in memory: a base, or an exported model (`model/` of a run) with its adapter, head and card."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from peft import PeftModel
from pydantic import ValidationError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from presafe import storage
from presafe.config import Settings
from presafe.engines.head import SafetyHead, load_head
from presafe.errors import UserError, user_error
from presafe.thinking import ThinkFormat, think_format

WEIGHTS = (".safetensors", ".bin")


class HeadCard(Settings):
    """Where the gate's probability comes from."""

    kind: Literal["linear", "mean", "readout"] = "linear"
    """A linear probe at the pre-CoT position (the paper's head), one on the prompt's mean, or the model's own
    probability of the decision token, which needs no weights."""
    layer: int = -1
    """Decoder layer that a probe reads, counted from 1; -1 is the final-norm hidden state."""


class Card(Settings):
    """`presafe.json` of an exported model."""

    base_model: str
    """Folder or hub name of the model the adapter belongs to."""
    dtype: Literal["float32", "bfloat16"]
    """Dtype of the base's weights."""
    think_format: dict[str, str | bool]
    """Tags, empty block, and whether the prompt opens the block."""
    head: HeadCard = HeadCard()
    """Where the head reads."""
    threshold: float
    """Calibrated threshold of the gate."""
    max_over_refusal: float
    """Share of benign validation prompts the threshold was allowed to refuse."""
    refusal: str
    """What the gate's refusal says."""
    config_hash: str
    """Hash of the alignment's settings."""
    metrics: dict[str, float]
    """Last training metrics."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to generate. `head` and `card` are None for a plain base model."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    format: ThinkFormat
    head: SafetyHead | None
    card: Card | None

    @property
    def stop_ids(self) -> frozenset[int]:
        return _stop_ids(self.tokenizer, self.model.generation_config)


def load_base(folder: str, dtype: str, device: str = "cpu") -> LoadedModel:
    """A plain model in evaluation mode, or a PEFT adapter merged into its base. Raises UserError for anything else."""
    tokenizer = load_tokenizer(folder)
    base, adapter = split_adapter(folder)
    model = _load_weights(base, dtype).to(device)
    if adapter is not None:
        model = _merged(model, adapter)
    return LoadedModel(model.eval(), tokenizer, think_format(tokenizer), None, None)


def load_exported(folder: str, device: str = "cpu") -> LoadedModel:
    """An exported model: its base with the adapter merged in, its head and its card."""
    card = read_card(folder)
    local = storage.local_folder(storage.absolute(folder))
    base = load_base(card.base_model, card.dtype, device)
    merged = _merged(base.model, f"{local}/adapter")
    head = load_head(f"{local}/safety_head.safetensors").to(device)
    return LoadedModel(merged.eval(), base.tokenizer, base.format, head, card)


def split_adapter(folder: str) -> tuple[str, str | None]:
    """The base and the local adapter of a PEFT adapter's folder; a model's folder is its own base, without adapter."""
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
    return str(base), storage.local_folder(folder)


def stop_ids(folder: str) -> frozenset[int]:
    """The ids that end a completion of the model or adapter in `folder`, without loading its weights."""
    base = storage.local_folder(split_adapter(folder)[0])
    try:
        generation = GenerationConfig.from_pretrained(base)
    except OSError:  # a model without a generation config: transformers takes the ids from the model's own
        generation = GenerationConfig.from_model_config(AutoConfig.from_pretrained(base))
    return _stop_ids(load_tokenizer(folder), generation)


def check_model(folder: str) -> ThinkFormat:
    """The think format of the model in `folder`, or of the adapter and its base, without loading their weights.

    Raises UserError where tokenizer, template, configuration or weights are missing: an error that a driver finds here
    is one sentence, and the same error in an actor is a stack trace.
    """
    think = think_format(load_tokenizer(folder))
    base, _ = split_adapter(folder)
    try:
        AutoConfig.from_pretrained(storage.local_folder(base))
    except (OSError, ValueError) as error:
        raise _unloadable(base, "configuration", error) from error
    for place in {folder, base}:
        if storage.exists(place) and not any(name.endswith(WEIGHTS) for name in storage.names(place)):
            raise _unloadable(place, "weights", FileNotFoundError(f"no {' or '.join(WEIGHTS)} file"))
    return think


def read_card(folder: str) -> Card:
    """`presafe.json` of an exported model. Raises UserError where it is missing or of another shape."""
    path = storage.join(storage.absolute(folder), "presafe.json")
    if not storage.exists(path):
        raise user_error(
            found=f"no exported model in {folder}",
            needed=f"{path}",
            change="give the model/ folder of a finished run (presafe run, presafe align)",
        )
    try:
        return Card.model_validate(storage.read_json(path))
    except ValidationError as error:
        raise UserError(f"found {path} of another shape: {error}; export the model again") from error


def load_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    """The tokenizer beside a model; an adapter's own where its folder has one, else its base's."""
    if not storage.exists(storage.join(folder, "tokenizer_config.json")):
        folder, _ = split_adapter(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(storage.local_folder(folder), padding_side="left")
    except (OSError, ValueError) as error:
        raise _unloadable(folder, "tokenizer", error) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def _load_weights(folder: str, dtype: str) -> Any:
    try:
        return AutoModelForCausalLM.from_pretrained(storage.local_folder(folder), dtype=getattr(torch, dtype))
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
