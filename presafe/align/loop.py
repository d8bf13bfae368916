"""What each training worker runs: build or shard the model, resume, train, calibrate, export."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import ray.train
import torch.distributed as dist
from transformers import set_seed

from presafe import storage
from presafe.align.build import build_module, build_optimizer, head_spec
from presafe.align.checkpoint import TrainerState, restore, save
from presafe.align.collate import Collator
from presafe.align.export import export_model
from presafe.align.loss import LossWeights
from presafe.align.plan import BatchPlan, Draw
from presafe.align.probe import chosen, look, summary
from presafe.align.record import RunRecord
from presafe.align.step import train_step
from presafe.align.zero import sharded_loading, start_engine, zero_config
from presafe.config import Align, ReadoutHead
from presafe.engines.card import Card
from presafe.gate import calibrate, decide
from presafe.records import Example
from presafe.schedule import schedule
from presafe.tracking import Kind, tracker


@dataclass(frozen=True)
class TrainTask:
    """What a worker needs: the base, the stage's folder with its example files, the settings, the card to complete."""

    base: str
    folder: str
    export_folder: str
    align: Align
    seed: int
    collator: Collator
    decision_token: int
    card: Card
    run_name: str
    tracker: Kind

    def file(self, name: str) -> str:
        return storage.join(self.folder, name)


def train_worker(loop_config: dict[str, Any]) -> None:
    """Ray Train's entry, on every rank."""
    task: TrainTask = loop_config["task"]
    align = task.align
    examples = storage.read_rows(task.file("examples.parquet"), Example)
    validation = storage.read_rows(task.file("validation.parquet"), Example)
    config = zero_config(align, task.card.dtype)
    loading = sharded_loading(config)
    module = build_module(task.base, task.card.dtype, align, head_spec(align, task.decision_token), task.seed)
    del loading
    optimizer = build_optimizer(module, align)
    engine = start_engine(module, config, optimizer, schedule(align.learning_rate_schedule, align.steps))
    set_seed(task.seed + dist.get_rank())  # dropout differs over ranks
    state = _train(engine, examples, validation, task, restore(engine))
    looks = look(engine, validation, align.micro_batch_tokens, task.collator)
    benign = [seen.probability for seen in looks if seen.path == "think"]
    threshold = calibrate(benign, task.card.max_over_refusal)
    over_refusal = sum(decide(p, threshold) == "refuse" for p in benign) / len(benign)
    metrics = {name: value for name, value in state.history[-1].items() if name != "seconds"}
    measured = {"threshold": threshold, "over_refusal": over_refusal, "metrics": metrics}
    card = task.card.model_copy(update=measured)
    export_model(engine, module, card, task.export_folder, validation, task.collator, align)


def batch_plan(examples: Sequence[Example], align: Align, seed: int, collator: Collator) -> BatchPlan:
    """Demonstrations first, then the signal pool, as examples.py orders them."""
    demonstrations = sum(bool(example.completion) for example in examples)
    draws = (
        Draw(demonstrations, align.batch_size if demonstrations else 0),
        Draw(len(examples) - demonstrations, align.signal_batch_size),
    )
    return BatchPlan(tuple(map(collator.length, examples)), draws, align.micro_batch_tokens, seed)


def loss_weights(align: Align, step: int) -> LossWeights:
    """Weights at a step (from 0)."""
    anchor = align.head.kl_weight if isinstance(align.head, ReadoutHead) else 0.0
    return LossWeights(align.weight * schedule(align.weight_schedule, align.steps)(step), anchor)


def _train(
    engine: Any, examples: Sequence[Example], validation: Sequence[Example], task: TrainTask, state: TrainerState
) -> TrainerState:
    align, first = task.align, ray.train.get_context().get_world_rank() == 0
    plan = batch_plan(examples, align, task.seed, task.collator)
    probed = chosen(validation, align.probe_prompts)
    with tracker(task.tracker if first else "none", task.run_name, task.folder, state.history) as log:
        record = RunRecord(task.folder, align.steps, state.history, log)
        for step in range(state.step, align.steps):
            learning_rate, begin = engine.get_lr()[0], time.monotonic()
            metrics = train_step(engine, examples, plan, step, loss_weights(align, step), task.collator)
            seconds = time.monotonic() - begin
            row = {"step": step + 1, "learning_rate": learning_rate, **asdict(metrics), "seconds": seconds}
            last = step + 1 == align.steps
            if last or (step + 1) % align.probe_every == 0:
                row |= summary(look(engine, probed, align.micro_batch_tokens, task.collator))
            state = replace(state, step=step + 1, history=[*state.history, row])
            due = last or state.step % align.checkpoint_every == 0
            if first:  # before the checkpoint: what it holds is then never missing in metrics.jsonl
                record.add(row, now=due)
            if due:
                save(engine, state)
    return state
