"""Data-parallel training of the classifier on Ray Train, stopped early, the best epoch kept."""

import math
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray.train
import torch
from ray.train import FailureConfig, RunConfig, TrainingFailedError
from ray.train.torch import TorchTrainer, prepare_model
from transformers import PreTrainedTokenizerBase

from presafe import storage
from presafe.cluster.options import runtime_env
from presafe.config import Signals
from presafe.progress import StepReporter, progress, steps_done
from presafe.runtime import user_errors
from presafe.schedule import warmup_cosine
from presafe.signals.classifier import EncoderSpec, classifier_tokenizer, new_classifier
from presafe.signals.loss import ClassWeights, Labelled, balanced, rank_loss
from presafe.signals.noise import vocabulary_pieces, with_noise
from presafe.training_group import scaling, torch_config

MAX_FAILURES = 3
"""Workers that may be lost; the training, of minutes, starts again. Preempted nodes do not count."""


@dataclass(frozen=True)
class ClassifierTask:
    """What a training worker needs; `data` and `stopping` are files of Labelled rows."""

    data: str
    stopping: str
    output: str
    progress: str
    spec: EncoderSpec
    settings: Signals
    seed: int


@dataclass(frozen=True)
class Trained:
    """A trained classifier's folder, and the loss on the stopping rows after each epoch that ran."""

    folder: str
    losses: list[float]

    @property
    def best_epoch(self) -> int:
        """Counted from 1."""
        return self.losses.index(min(self.losses)) + 1


def train_classifier(
    rows: Sequence[Labelled],
    stopping: Sequence[Labelled],
    folder: str,
    spec: EncoderSpec,
    settings: Signals,
    seed: int,
    title: str = "signals",
) -> Trained:
    """Train on `rows` in `folder`; keep the epoch with the lowest loss on `stopping`."""
    data, held_back = storage.join(folder, "labelled.parquet"), storage.join(folder, "stopping.parquet")
    storage.write_rows(data, rows, Labelled)
    storage.write_rows(held_back, stopping, Labelled)
    output = storage.join(folder, "classifier")
    task = ClassifierTask(data, held_back, output, storage.join(folder, "progress.json"), spec, settings, seed)
    files, path = storage.arrow_file_system(folder)
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"task": task},
        scaling_config=scaling(settings.workers),
        torch_config=torch_config(),
        run_config=RunConfig(
            name="training",
            storage_path=path,
            storage_filesystem=files,
            failure_config=FailureConfig(max_failures=MAX_FAILURES, max_preemption_failures=-1),
            worker_runtime_env=runtime_env(settings.workers.environment),
        ),
    )
    steps = math.ceil(len(rows) / settings.batch_size) * settings.epochs
    bar = progress(steps_done(task.progress), steps, title, "steps", rated=False)
    with bar, user_errors(TrainingFailedError):
        trainer.fit()
    return Trained(output, storage.read_json(storage.join(output, "losses.json")))


def _worker(loop_config: dict[str, Any]) -> None:
    task: ClassifierTask = loop_config["task"]
    context = ray.train.get_context()
    torch.manual_seed(task.seed)
    model = prepare_model(new_classifier(task.spec))
    tokenizer = classifier_tokenizer(task.spec)
    rows, stopping = storage.read_rows(task.data, Labelled), storage.read_rows(task.stopping, Labelled)
    training = ClassifierTraining(task.settings, task.seed, context.get_world_rank(), context.get_world_size())
    report = StepReporter(task.progress, training.steps(rows))
    losses = fit(model, tokenizer, rows, stopping, training, report)
    if training.rank == 0:
        with tempfile.TemporaryDirectory() as local:
            getattr(model, "module", model).save_pretrained(local)
            assert os.listdir(local)
            storage.upload(local, task.output)
        storage.write_json(storage.join(task.output, "losses.json"), losses)


@dataclass(frozen=True)
class ClassifierTraining:
    """How one rank trains."""

    settings: Signals
    seed: int
    rank: int
    world: int

    def steps(self, rows: Sequence[Labelled]) -> int:
        return math.ceil(len(rows) / self.settings.batch_size) * self.settings.epochs


def fit(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Labelled],
    stopping: Sequence[Labelled],
    training: ClassifierTraining,
    report: StepReporter,
) -> list[float]:
    """Train `model` in place and leave it with the weights of its best epoch; the stopping loss of each epoch."""
    settings = training.settings
    weights = balanced([row.label for row in rows]) if settings.class_weighting else ClassWeights()
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(training.steps(rows)))
    pieces = vocabulary_pieces(tokenizer)
    losses: list[float] = []
    best: dict[str, torch.Tensor] = {}
    for epoch in range(settings.epochs):
        model.train()
        for batch in _batches(rows, pieces, training, epoch):
            loss = rank_loss(model, tokenizer, batch, weights, settings.max_tokens, training.rank, training.world)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if training.rank == 0:
                numbers = {"loss": loss.item(), "grad_norm": grad_norm.item()}
                report(schedule.last_epoch, f"loss {numbers['loss']:.4f}", numbers)
        losses.append(stopping_loss(model, tokenizer, stopping, weights, training))
        if losses[-1] == min(losses):
            best = {name: value.cpu().clone() for name, value in model.state_dict().items()}
        elif len(losses) - 1 - losses.index(min(losses)) >= settings.patience:
            break
    model.load_state_dict(best)
    return losses


def _batches(
    rows: Sequence[Labelled], pieces: Sequence[str], training: ClassifierTraining, epoch: int
) -> Iterator[list[Labelled]]:
    """The epoch's global batches, the same on every rank."""
    settings, rng = training.settings, random.Random(f"{training.seed}/{epoch}")
    order = rng.sample(range(len(rows)), len(rows))
    for start in range(0, len(rows), settings.batch_size):
        batch = [rows[i] for i in order[start : start + settings.batch_size]]
        if settings.noise_tokens:
            batch = [replace(row, text=with_noise(row.text, pieces, settings.noise_tokens, rng)) for row in batch]
        yield batch


@torch.no_grad()
def stopping_loss(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Labelled],
    weights: ClassWeights,
    training: ClassifierTraining,
) -> float:
    """Mean loss over `rows`, each rank its share of them; the same number on every rank."""
    model.eval()
    size = training.settings.batch_size
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    # Each part's loss is its mean times the number of ranks, over this rank's rows alone.
    losses = [
        rank_loss(model, tokenizer, part, weights, training.settings.max_tokens, training.rank, training.world)
        * len(part)
        for part in parts
    ]
    total = torch.stack(losses).sum() / training.world
    if training.world > 1:
        torch.distributed.all_reduce(total)
    return float(total.item() / len(rows))
