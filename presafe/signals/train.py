"""Data-parallel training of the classifier on Ray Train."""

import math
import os
import tempfile
from dataclasses import dataclass
from typing import Any

import ray.train
import torch
from ray.train import RunConfig
from ray.train.torch import TorchTrainer, prepare_model
from torch.nn.functional import binary_cross_entropy_with_logits

from presafe import storage
from presafe.config import Signals
from presafe.progress import StepReporter, progress, steps_done
from presafe.runtime import scaling
from presafe.schedule import warmup_cosine
from presafe.signals.classifier import EncoderSpec, classifier_tokenizer, logits, new_classifier


@dataclass(frozen=True)
class Labelled:
    """One query with the teacher's decision, 1 for refuse and 0 for comply."""

    text: str
    label: float


@dataclass(frozen=True)
class TrainTask:
    """What a training worker needs."""

    data: str
    output: str
    progress: str
    spec: EncoderSpec
    settings: Signals
    seed: int


def train_classifier(rows: list[Labelled], folder: str, spec: EncoderSpec, settings: Signals, seed: int) -> str:
    """Train on `rows`; returns the folder of the trained classifier."""
    data, output = storage.join(folder, "labelled.parquet"), storage.join(folder, "classifier")
    storage.write_rows(data, rows, Labelled)
    task = TrainTask(data, output, storage.join(folder, "progress.json"), spec, settings, seed)
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"task": task},
        scaling_config=scaling(settings.workers),
        run_config=RunConfig(name="training", storage_path=folder),
    )
    steps = math.ceil(len(rows) / settings.batch_size) * settings.epochs
    with progress(steps_done(task.progress), steps, "signals", "steps"):
        trainer.fit()
    return output


def _worker(loop_config: dict[str, Any]) -> None:
    task: TrainTask = loop_config["task"]
    settings, context = task.settings, ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    rows = storage.read_rows(task.data, Labelled)
    torch.manual_seed(task.seed)
    model = prepare_model(new_classifier(task.spec))
    tokenizer = classifier_tokenizer(task.spec)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.01)
    per_epoch = math.ceil(len(rows) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(per_epoch * settings.epochs))
    report = StepReporter(task.progress, per_epoch * settings.epochs)
    model.train()
    for epoch in range(settings.epochs):
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(task.seed * 10_000 + epoch)).tolist()
        for start in range(0, len(rows), settings.batch_size):
            batch = order[start : start + settings.batch_size]
            # A rank without a row of the last batch repeats one at weight 0: DDP needs a backward pass of each rank.
            own = batch[rank::world] or batch[:1]
            labels = torch.tensor([rows[i].label for i in own])
            scores = logits(model, tokenizer, [rows[i].text for i in own], settings.max_tokens)
            loss = binary_cross_entropy_with_logits(scores, labels.to(scores.device), reduction="sum")
            weight = world / len(batch) if batch[rank::world] else 0.0  # DDP averages over ranks
            optimizer.zero_grad()
            torch.autograd.backward(loss * weight)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if rank == 0:
                report(schedule.last_epoch, f"loss {loss.item() / len(own):.4f}")
    if rank == 0:
        with tempfile.TemporaryDirectory() as local:
            getattr(model, "module", model).save_pretrained(local)
            assert os.listdir(local)
            storage.upload(local, task.output)
