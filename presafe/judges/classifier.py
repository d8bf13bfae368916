"""The classifier judge: a Hugging Face sequence classifier over answers, as a Ray Data job."""

import math
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from presafe import storage
from presafe.config import ClassifierSettings
from presafe.engines.model_files import local_texts, local_weights
from presafe.errors import UserError, user_error
from presafe.judges.verdicts import Verdict, readable
from presafe.records import Decision, FinishReason, schema, to_table
from presafe.rowjob import RowJob, run_rows
from presafe.runtime import resolved


@dataclass(frozen=True)
class ClassifierRow:
    """The columns of a Generation that a classifier reads."""

    task_id: str
    query: str
    answer: str
    finish_reason: FinishReason
    error: str | None


def check_classifier(settings: ClassifierSettings) -> None:
    """Raise UserError where the model is no classifier that says which of its labels is likeliest, or lacks a label."""
    config, tokenizer = (load(settings.model, _whose(settings)) for load in (classifier_config, classifier_tokenizer))
    labels = sorted(config.id2label.values())
    if missing := sorted({*settings.refuse_labels, *settings.comply_labels} - set(labels)):
        raise user_error(
            found=f"no label {', '.join(map(repr, missing))} in {settings.model}, which has {', '.join(labels)}",
            needed="labels by the names in the model's id2label",
            change=f"correct refuse_labels and comply_labels of judge {settings.name!r}",
        )
    if config.problem_type == "multi_label_classification":
        raise user_error(
            found=f"{settings.model}, whose labels do not exclude each other",
            needed="a single-label classifier",
            change=f"choose another model for judge {settings.name!r}",
        )
    limit = min(tokenizer.model_max_length, config.to_dict().get("max_position_embeddings") or math.inf)
    if settings.max_tokens > limit:
        raise user_error(
            found=f"max_tokens {settings.max_tokens} of {_whose(settings)}",
            needed=f"at most the {limit:g} tokens that {settings.model} reads",
            change="lower it",
        )


def classifier_verdicts(generations: str, settings: ClassifierSettings, folder: str) -> str:
    """Judge the Generation rows in `generations`, resuming in `folder`; returns the folder of Verdict rows.

    An answer that is not `readable` is unscored without the model. Raises AssertionError where a row is lost.
    """
    job = RowJob(
        id_column="task_id",
        columns=schema(ClassifierRow).names,
        checkpoint=storage.join(folder, "checkpoint"),
        workers=settings.workers,
        rows_per_block=settings.rows_per_block,
        title=f"judge {settings.name}",
        again=pc.field("num_tokens") == 0,  # an answer that it did not read may have been generated again
    )
    return run_rows(generations, storage.join(folder, "verdicts"), job, Classifier, settings)


class Classifier:
    """Actor: loads the classifier once, then turns batches of answers into verdicts."""

    def __init__(self, settings: ClassifierSettings) -> None:
        self._settings, self._tokenizer = settings, classifier_tokenizer(settings.model, _whose(settings))
        device = "cuda" if settings.workers.num_gpus > 0 else "cpu"
        model = AutoModelForSequenceClassification.from_pretrained(
            local_weights(resolved(settings.model)), dtype=getattr(torch, settings.dtype)
        )
        self._model = model.to(device).eval()
        self._model.config.pad_token_id = self._tokenizer.pad_token_id
        self._refuse, self._comply = (
            torch.tensor([k for k, label in model.config.id2label.items() if label in side], device=device)
            for side in (settings.refuse_labels, settings.comply_labels)
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = [ClassifierRow(**row) for row in batch.select(schema(ClassifierRow).names).to_pylist()]
        good = [row for row in rows if readable(row.answer, row.finish_reason, row.error)]
        judged = {row.task_id for row in good}
        done = [Verdict(row.task_id, "unscored", 0) for row in rows if row.task_id not in judged]
        order = sorted(good, key=lambda row: len(row.query) + len(row.answer))
        for start in range(0, len(order), self._settings.batch_size):
            done += self._judge(order[start : start + self._settings.batch_size])
        return to_table(done, Verdict)

    @torch.inference_mode()
    def _judge(self, rows: list[ClassifierRow]) -> list[Verdict]:
        answers = [row.answer for row in rows]
        texts = ([row.query for row in rows], answers) if self._settings.reads == "query_and_answer" else (answers,)
        # longest_first cuts the ends, and leaves the answer half of the room however long its query is
        inputs = self._tokenizer(
            *texts, truncation="longest_first", max_length=self._settings.max_tokens, padding=True, return_tensors="pt"
        ).to(self._model.device)
        probabilities = self._model(**inputs).logits.float().softmax(-1)
        sides = zip(
            probabilities[:, self._refuse].sum(-1).tolist(),
            probabilities[:, self._comply].sum(-1).tolist(),
            strict=True,
        )
        counts = inputs["attention_mask"].sum(-1).tolist()
        return [
            Verdict(row.task_id, decision_of(*side, self._settings.min_confidence), count)
            for row, side, count in zip(rows, sides, counts, strict=True)
        ]


def decision_of(refuse: float, comply: float, min_confidence: float) -> Decision:
    """The side with the higher probability, if it has `min_confidence`; a tie or a NaN decides nothing."""
    if not max(refuse, comply) >= min_confidence:
        return "unscored"
    if refuse > comply:
        return "refuse"
    return "comply" if comply > refuse else "unscored"


def classifier_config(model: str, whose: str) -> Any:
    """Raises UserError where there is none; `whose` model it is (`judge 'x'`) stands in the sentence."""
    local = local_texts(resolved(model))
    try:
        return AutoConfig.from_pretrained(local)
    except (OSError, ValueError) as error:
        raise _unloadable(model, whose, "configuration", error) from error


def classifier_tokenizer(model: str, whose: str) -> Any:
    """Cut and padded at the ends. Raises UserError as the configuration does."""
    local = local_texts(resolved(model))
    try:
        tokenizer = AutoTokenizer.from_pretrained(local, padding_side="right", truncation_side="right")
    except (OSError, ValueError) as error:
        raise _unloadable(model, whose, "tokenizer", error) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _whose(settings: ClassifierSettings) -> str:
    return f"judge {settings.name!r}"


def _unloadable(model: str, whose: str, what: str, error: Exception) -> UserError:
    return user_error(
        found=f"no loadable {what} at {model} ({str(error).strip().splitlines()[0]})",
        needed="a Hugging Face model of that kind with its tokenizer",
        change=f"correct the model of {whose}",
    )
