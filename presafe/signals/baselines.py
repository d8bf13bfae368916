"""Baselines on the same training rows: logistic regression on frozen embeddings, and on TF-IDF."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

import numpy as np
import ray
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from transformers import AutoModel

from presafe import storage
from presafe.cluster.options import actor_options
from presafe.config import Workers
from presafe.conversation import newest_first
from presafe.engines.model_files import local_weights
from presafe.records import Prompt
from presafe.signals.classifier import EncoderSpec, classifier_tokenizer
from presafe.signals.loss import Labelled

FROZEN, TFIDF = "frozen embeddings + logistic regression", "TF-IDF + logistic regression"
CHUNK = 256


@dataclass(frozen=True)
class PromptText:
    """A prompt to score: what the classifier reads of it, of several turns the newest first."""

    prompt_id: str
    text: str

    @classmethod
    def of(cls, prompt: Prompt) -> Self:
        return cls(prompt.prompt_id, newest_first(prompt))


def baseline_logits(training: str, texts: str, spec: EncoderSpec, workers: Workers) -> dict[str, dict[str, float]]:
    """Logits by prompt_id of the rows of `texts` (PromptText), by the baseline's name; `training` holds Labelled rows.

    One Ray task with one worker's share of the cluster does it.
    """
    task = ray.remote(_fit_and_score).options(**actor_options(workers))
    result: dict[str, dict[str, float]] = ray.get(task.remote(training, texts, spec, workers.num_gpus > 0))
    return result


def _fit_and_score(training: str, texts: str, spec: EncoderSpec, on_gpu: bool) -> dict[str, dict[str, float]]:
    rows = storage.read_rows(training, Labelled)
    labels = [int(row.label >= 0.5) for row in rows]
    embed = FrozenEmbeddings(spec, on_gpu)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    features: dict[str, Any] = {FROZEN: embed, TFIDF: words.transform}
    words.fit([row.text for row in rows])
    scores: dict[str, dict[str, float]] = {}
    for name, transform in features.items():
        model = LogisticRegression(max_iter=2000).fit(transform([row.text for row in rows]), labels)
        scores[name] = {}
        for chunk in _chunks(storage.stream_rows(texts, PromptText)):
            values = model.decision_function(transform([row.text for row in chunk]))
            scores[name].update(zip((row.prompt_id for row in chunk), values.tolist(), strict=True))
    return scores


class FrozenEmbeddings:
    """Mean-pooled last hidden states of the encoder as it was before training, scaled to length 1.

    A fresh encoder has learnt nothing then: the reasoning model's input embeddings stand in for it.
    """

    def __init__(self, spec: EncoderSpec, on_gpu: bool) -> None:
        fresh = not isinstance(spec.encoder, str)
        folder = local_weights(spec.tokenizer_folder)
        model = AutoModel.from_pretrained(folder, dtype=torch.float32).to("cuda" if on_gpu else "cpu").eval()
        self._encode = _lookup(model.get_input_embeddings()) if fresh else _hidden(model)
        self._tokenizer, self._max_tokens, self._device = classifier_tokenizer(spec), spec.max_tokens, model.device

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        parts = []
        for start in range(0, len(texts), 64):
            batch = self._tokenizer(
                list(texts[start : start + 64]),
                padding=True,
                truncation=True,
                max_length=self._max_tokens,
                return_tensors="pt",
            )
            ids, mask = batch["input_ids"].to(self._device), batch["attention_mask"].to(self._device)
            weights = mask[..., None].float()
            pooled = (self._encode(ids, mask) * weights).sum(1) / weights.sum(1)
            parts.append(torch.nn.functional.normalize(pooled, dim=-1).cpu())
        return torch.cat(parts).numpy()


def _lookup(embeddings: Any) -> Any:
    return lambda ids, mask: embeddings(ids)  # noqa: ARG005


def _hidden(model: Any) -> Any:
    return lambda ids, mask: model(input_ids=ids, attention_mask=mask).last_hidden_state


def _chunks(rows: Iterable[PromptText]) -> Iterator[list[PromptText]]:
    remaining = iter(rows)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk
