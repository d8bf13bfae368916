"""Sequence classifiers in front of a model: the run's own classifier of the teacher's decisions, and guards."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from presafe import storage
from presafe.config import BuiltEncoder, Config, FreshEncoder
from presafe.config.defences import GuardClassifier
from presafe.conversation import newest_first
from presafe.defences.score import Reader, Reading
from presafe.defences.states import batches, device
from presafe.engines.job import Task
from presafe.engines.model_files import check_weights, local_weights
from presafe.errors import user_error
from presafe.judges.classifier import classifier_config, classifier_tokenizer
from presafe.runtime import built, model_folder, resolved


@dataclass(frozen=True)
class Encoder:
    """A classifier on disk: its weights, its tokenizer, the tokens that it reads, and their dtype."""

    weights: str
    tokenizer: str
    max_tokens: int
    dtype: str
    whose: str


def own_classifier(config: Config, whose: str) -> Encoder:
    """That of stage `signals`, whose tokenizer is its encoder's. Raises UserError where the stage has none."""
    weights = storage.join(config.run_directory.folder("signals"), "classifier")
    if not storage.exists(weights):
        raise user_error(
            found=f"{whose} and no classifier in {config.run_directory.folder('signals')}",
            needed="the one that stage `signals` trains",
            change="run `presafe signals` with the same config first, or leave the defence out",
        )
    encoder = config.signals.encoder
    if isinstance(encoder, BuiltEncoder):
        encoder = built(config, encoder.build, encoder.build_options)
    tokenizer = model_folder(config) if isinstance(encoder, FreshEncoder) or encoder == "model" else encoder
    return Encoder(weights, tokenizer, config.signals.max_tokens, "float32", whose)


def guard_classifier(settings: GuardClassifier) -> Encoder:
    model = resolved(settings.model)
    return Encoder(model, model, settings.max_tokens, settings.dtype, f"defence {settings.name!r}")


def check_guard_classifier(settings: GuardClassifier) -> None:
    """Raise UserError where the model cannot be loaded, lacks a label, or reads fewer tokens than it is given."""
    encoder = guard_classifier(settings)
    config, tokenizer = classifier_config(encoder.weights, encoder.whose), tokenizer_of(encoder)
    labels_of(settings, config)
    check_weights(encoder.weights)
    limit = min(tokenizer.model_max_length, config.to_dict().get("max_position_embeddings") or math.inf)
    if settings.max_tokens > limit:
        raise user_error(
            found=f"max_tokens {settings.max_tokens} of {encoder.whose}",
            needed=f"at most the {limit:g} tokens that {settings.model} reads",
            change="lower it",
        )


def labels_of(settings: GuardClassifier, config: Any) -> list[int]:
    """Indices of the labels for unsafe prompts. Raises UserError where the model has no such label, or no other one."""
    names: dict[int, str] = config.id2label
    places = {label: place for place, label in names.items()} | {place: place for place in names}
    if missing := [label for label in settings.unsafe_labels if label not in places]:
        known = ", ".join(names.values())
        raise user_error(
            found=f"no label {', '.join(map(repr, missing))} in {settings.model}, which has {known}",
            needed="labels by the names in the model's id2label",
            change=f"correct unsafe_labels of defence {settings.name!r}; an index will do, too",
        )
    found = sorted({places[label] for label in settings.unsafe_labels})
    if len(found) == len(names) > 1 and config.problem_type != "multi_label_classification":
        raise user_error(
            found=f"every label of {settings.model} in unsafe_labels of defence {settings.name!r}",
            needed="a label that stands for safe prompts",
            change="leave it out of unsafe_labels",
        )
    return found


def start_own_classifier(encoder: Encoder, temperature: float, batch_tokens: int, *, on_gpu: bool) -> Reader:
    """Reads the calibrated probability of refusal."""
    return _started(encoder, lambda logits, _: torch.sigmoid(logits[:, 0] / temperature), batch_tokens, on_gpu=on_gpu)


def start_guard_classifier(settings: GuardClassifier, *, on_gpu: bool) -> Reader:
    """Reads the log-odds of the labels for unsafe prompts."""

    def score(logits: torch.Tensor, config: Any) -> torch.Tensor:
        together = config.problem_type == "multi_label_classification"
        return log_odds(logits, labels_of(settings, config), independent=together)

    return _started(guard_classifier(settings), score, settings.batch_tokens, on_gpu=on_gpu)


def log_odds(logits: torch.Tensor, unsafe: Sequence[int], *, independent: bool) -> torch.Tensor:
    """Of `unsafe` against the other labels, [B], from logits [B, labels].

    Of labels that do not exclude each other, `independent` ones, and of a single one, the highest of their own.
    """
    if independent or logits.shape[1] == 1:
        return logits[:, [*unsafe]].amax(dim=1)
    safe = [place for place in range(logits.shape[1]) if place not in unsafe]
    return logits[:, [*unsafe]].logsumexp(dim=1) - logits[:, safe].logsumexp(dim=1)


def tokenizer_of(encoder: Encoder) -> Any:
    return classifier_tokenizer(encoder.tokenizer, encoder.whose)


def _started(
    encoder: Encoder, score: Callable[[torch.Tensor, Any], torch.Tensor], batch_tokens: int, *, on_gpu: bool
) -> Reader:
    tokenizer = tokenizer_of(encoder)
    loaded: Any = AutoModelForSequenceClassification.from_pretrained(
        local_weights(encoder.weights), dtype=getattr(torch, encoder.dtype)
    )
    model = loaded.to(device(on_gpu=on_gpu)).eval()
    model.config.pad_token_id = tokenizer.pad_token_id

    @torch.inference_mode()
    def read(tasks: Sequence[Task]) -> list[Reading]:
        texts = [newest_first(task) for task in tasks]
        ids = tokenizer(texts, truncation=True, max_length=encoder.max_tokens)["input_ids"]
        done: dict[int, Reading] = {}
        for batch in batches([len(each) for each in ids], batch_tokens):
            inputs = tokenizer(
                [texts[place] for place in batch],
                truncation=True,
                max_length=encoder.max_tokens,
                padding=True,
                return_tensors="pt",
            )
            given = {name: inputs[name].to(model.device) for name in ("input_ids", "attention_mask")}
            found = score(model(**given).logits.float(), model.config).tolist()
            done |= {place: Reading(value, len(ids[place])) for place, value in zip(batch, found, strict=True)}
        return [done[place] for place in range(len(tasks))]

    return read
