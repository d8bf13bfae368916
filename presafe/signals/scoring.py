"""Logits of every prompt, on a Ray Data actor pool."""

from dataclasses import dataclass

import pyarrow as pa
import ray
import torch
from ray.data import ActorPoolStrategy
from transformers import AutoModelForSequenceClassification

from presafe import storage
from presafe.cluster.options import actor_options
from presafe.config import Workers
from presafe.records import to_table
from presafe.rowjob import quiet_data
from presafe.runtime import user_errors
from presafe.signals.classifier import EncoderSpec, classifier_tokenizer, logits


@dataclass(frozen=True)
class Score:
    """The classifier's logit of refusal."""

    prompt_id: str
    logit: float


def score_prompts(prompts: str, classifier: str, output: str, spec: EncoderSpec, workers: Workers) -> dict[str, float]:
    """Logit by prompt_id of every row of the Parquet file `prompts` (columns prompt_id and text).

    Texts stream through the actors; the driver holds ids and logits alone.
    """
    storage.remove(output)
    quiet_data()
    files, path = storage.arrow_file_system(prompts)
    dataset = (
        ray.data.read_parquet(path, filesystem=files, columns=["prompt_id", "text"])
        .repartition(target_num_rows_per_block=1024, strict=True)
        .map_batches(
            Scorer,
            fn_constructor_args=(classifier, spec, workers.num_gpus > 0),
            batch_size=256,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=workers.num_workers),
            **actor_options(workers),
        )
    )
    files, path = storage.arrow_file_system(output)
    with user_errors():
        dataset.write_parquet(path, filesystem=files)
    return {row.prompt_id: row.logit for row in storage.stream_rows(output, Score)}


class Scorer:
    """Actor: loads the classifier once."""

    def __init__(self, classifier: str, spec: EncoderSpec, on_gpu: bool) -> None:
        model = AutoModelForSequenceClassification.from_pretrained(
            storage.local_folder(classifier), dtype=torch.float32
        )
        self._model = model.to("cuda" if on_gpu else "cpu").eval()
        self._tokenizer, self._max_tokens = classifier_tokenizer(spec), spec.max_tokens

    @torch.inference_mode()
    def __call__(self, batch: pa.Table) -> pa.Table:
        texts = batch["text"].to_pylist()
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        values: dict[int, float] = {}
        for start in range(0, len(order), 64):
            part = order[start : start + 64]
            scores = logits(self._model, self._tokenizer, [texts[i] for i in part], self._max_tokens)
            values.update(zip(part, scores.float().tolist(), strict=True))
        ids = batch["prompt_id"].to_pylist()
        return to_table([Score(ids[i], values[i]) for i in range(len(ids))], Score)
