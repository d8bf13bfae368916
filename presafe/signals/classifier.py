"""The classifier of safety decisions (paper, Fig. 3, step 1): query in, logit of refusal out.

Any encoder that transformers can classify sequences with, BERT and ModernBERT or the reasoning model's own weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerBase,
)

from presafe.config import FreshEncoder, Signals
from presafe.engines.model_files import local_texts, local_weights
from presafe.errors import user_error

OWN_MODEL = "model"
"""The value of `signals.encoder` that stands for the reasoning model itself."""


@dataclass(frozen=True)
class EncoderSpec:
    """Which encoder: a pre-trained one with its own tokenizer, or a fresh BERT on the aligned model's tokenizer."""

    encoder: str | FreshEncoder
    model_folder: str
    max_tokens: int

    @property
    def tokenizer_folder(self) -> str:
        return self.encoder if isinstance(self.encoder, str) else self.model_folder


def encoder_spec(encoder: str | FreshEncoder, model_folder: str, max_tokens: int) -> EncoderSpec:
    return EncoderSpec(model_folder if encoder == OWN_MODEL else encoder, model_folder, max_tokens)


def check_encoder(spec: EncoderSpec) -> None:
    """Raise UserError where a pre-trained encoder cannot be loaded, or reads fewer tokens than it would be given."""
    if not isinstance(spec.encoder, str):
        return
    try:
        classifier_tokenizer(spec)
        config = AutoConfig.from_pretrained(local_texts(spec.encoder))
    except (OSError, ValueError) as error:
        raise user_error(
            found=f"no loadable encoder at {spec.encoder} ({str(error).strip().splitlines()[0]})",
            needed="a Hugging Face model with its tokenizer",
            change="correct signals.encoder, or set it to `model`, a copy of the model to align, where there is no hub",
        ) from error
    limit: int = config.to_dict().get("max_position_embeddings") or spec.max_tokens
    if spec.max_tokens > limit:
        raise user_error(
            found=f"signals.max_tokens {spec.max_tokens}",
            needed=f"at most the {limit} tokens that {spec.encoder} reads",
            change="lower it",
        )


def check_named_encoder(settings: Signals) -> None:
    """The same for settings that name an encoder of its own, before there is a model."""
    if isinstance(settings.encoder, str) and settings.encoder != OWN_MODEL:
        check_encoder(EncoderSpec(settings.encoder, "", settings.max_tokens))


def new_classifier(spec: EncoderSpec) -> Any:
    """An untrained classifier with one logit, in float32."""
    tokenizer = classifier_tokenizer(spec)
    if isinstance(spec.encoder, str):
        model = AutoModelForSequenceClassification.from_pretrained(
            local_weights(spec.encoder), num_labels=1, dtype=torch.float32
        )
        model.config.pad_token_id = tokenizer.pad_token_id  # a causal model finds a query's last token by it
        return model
    shape = spec.encoder
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.num_hidden_layers,
            num_attention_heads=shape.num_attention_heads,
            intermediate_size=2 * shape.hidden_size,
            max_position_embeddings=spec.max_tokens,
            pad_token_id=tokenizer.pad_token_id,
            num_labels=1,
        )
    )


def classifier_tokenizer(spec: EncoderSpec) -> PreTrainedTokenizerBase:
    """Padded on the right: BERT's positions are absolute."""
    tokenizer = AutoTokenizer.from_pretrained(local_texts(spec.tokenizer_folder), padding_side="right")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def logits(model: Any, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int) -> torch.Tensor:
    """Logits of refusal, shape [len(texts)]."""
    batch = tokenizer(list(texts), padding=True, truncation=True, max_length=max_tokens, return_tensors="pt")
    device = next(model.parameters()).device
    inputs = {name: batch[name].to(device) for name in ("input_ids", "attention_mask")}
    output: torch.Tensor = model(**inputs).logits[:, 0]
    return output
