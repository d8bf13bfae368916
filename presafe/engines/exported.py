"""Models on disk and in memory: a base, or an exported model (`model/` of a run) with its adapter, head and card."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from peft import PeftModel
from pydantic import ValidationError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from presafe import storage
from presafe.config import Settings
from presafe.engines.head import SafetyHead, load_head
from presafe.errors import UserError, user_error
from presafe.thinking import ThinkFormat, think_format

WEIGHTS = (".safetensors", ".bin")


class HeadCard(Settings):
    """Where the safety head reads."""

    kind: Literal["linear"] = "linear"
    """A linear probe, the paper's head."""
    layer: int = -1
    """-1 is the final-norm hidden state."""
    position: Literal["pre_cot"] = "pre_cot"
    """The last token of the rendered CoT-ON prompt."""


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
        """The tokenizer's end of sequence, and those that the model's own generation config adds."""
        own = self.model.generation_config.eos_token_id
        listed = own if isinstance(own, list) else [own]
        return frozenset(i for i in [self.tokenizer.eos_token_id, *listed] if isinstance(i, int))


def load_base(folder: str, dtype: str, device: str = "cpu") -> LoadedModel:
    """A plain model in evaluation mode. Raises UserError where the folder is no model."""
    tokenizer = load_tokenizer(folder)
    model = _load_weights(folder, dtype).to(device).eval()
    return LoadedModel(model, tokenizer, think_format(tokenizer), None, None)


def load_exported(folder: str, device: str = "cpu") -> LoadedModel:
    """An exported model: its base with the adapter merged in, its head and its card."""
    card = read_card(folder)
    local = storage.local_folder(storage.absolute(folder))
    base = load_base(card.base_model, card.dtype, device)
    merged = PeftModel.from_pretrained(base.model, f"{local}/adapter").merge_and_unload()
    head = load_head(f"{local}/safety_head.safetensors").to(device)
    return LoadedModel(merged.eval(), base.tokenizer, base.format, head, card)


def check_model(folder: str) -> ThinkFormat:
    """The think format of the model in `folder`, without loading its weights.

    Raises UserError where tokenizer, template, configuration or weights are missing: an error that a driver finds here
    is one sentence, and the same error in an actor is a stack trace.
    """
    think = think_format(load_tokenizer(folder))
    try:
        AutoConfig.from_pretrained(storage.local_folder(folder))
    except (OSError, ValueError) as error:
        raise _unloadable(folder, "configuration", error) from error
    if storage.exists(folder) and not any(name.endswith(WEIGHTS) for name in storage.names(folder)):
        raise _unloadable(folder, "weights", FileNotFoundError(f"no {' or '.join(WEIGHTS)} file"))
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


def _unloadable(folder: str, what: str, error: Exception) -> UserError:
    first_line = str(error).strip().splitlines()[0]
    return user_error(
        found=f"no loadable {what} at {folder} ({first_line})",
        needed="a Hugging Face causal language model with its tokenizer",
        change="correct model.path",
    )
