"""What each training worker runs: build or shard the model, resume, train, calibrate, export."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import ray.train

from presafe import storage
from presafe.align.agreed import AgreedError
from presafe.align.build import build_module, build_optimizer, head_spec
from presafe.align.checkpoint import KEPT, Checkpoints, TrainerState, last_checkpoint, restore
from presafe.align.collate import Collator
from presafe.align.export import export_model
from presafe.align.guards import Guards
from presafe.align.loss import LossWeights
from presafe.align.plan import BatchPlan, Draw
from presafe.align.preemption import Notices
from presafe.align.probe import look, summary
from presafe.align.step import train_step
from presafe.align.universal import LOAD_SETTINGS
from presafe.align.watchdog import Watchdog
from presafe.align.zero import sharded_loading, start_engine, zero_config
from presafe.config import Align, ReadoutHead
from presafe.engines.exported import Card
from presafe.gate import calibrate
from presafe.progress import StepReporter
from presafe.records import Example
from presafe.schedule import schedule


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

    def file(self, name: str) -> str:
        return storage.join(self.folder, name)

    @property
    def checkpoints(self) -> str:
        """Where Ray Train keeps the run of this name."""
        return self.file("checkpoints")


def train_worker(loop_config: dict[str, Any]) -> str | None:
    """Ray Train's entry, on every rank. Returns what stopped the run where trying again would only meet it again."""
    try:
        _align(loop_config["task"])
    except AgreedError as error:
        return str(error)
    return None


def _align(task: TrainTask) -> None:
    align = task.align
    examples = storage.read_rows(task.file("examples.parquet"), Example)
    validation = storage.read_rows(task.file("validation.parquet"), Example)
    with Watchdog(align.workers.timeout_minutes * 60) as watchdog:
        with last_checkpoint() as saved:
            config = zero_config(align, task.card.dtype)
            if saved is not None and saved.of_another_world:
                config |= LOAD_SETTINGS
            loading = sharded_loading(config)
            module = build_module(task.base, task.card.dtype, align, head_spec(align, task.decision_token), task.seed)
            del loading
            optimizer = build_optimizer(module, align)
            engine = start_engine(module, config, optimizer, schedule(align.learning_rate_schedule, align.steps))
            state = restore(engine, saved, task.seed)
        guards = Guards(Checkpoints(task.checkpoints, engine), Notices(), watchdog)
        with guards.notices.patience():
            state = _train(engine, examples, validation, task, state, guards)
    looks = look(engine, validation, align.micro_batch_tokens, task.collator)
    threshold = calibrate([seen.probability for seen in looks if seen.path == "think"], task.card.max_over_refusal)
    card = task.card.model_copy(update={"threshold": threshold, "metrics": state.history[-1]})
    export_model(engine, module, card, task.export_folder, merge=align.merge)


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
    engine: Any,
    examples: Sequence[Example],
    validation: Sequence[Example],
    task: TrainTask,
    state: TrainerState,
    guards: Guards,
) -> TrainerState:
    align, rank = task.align, ray.train.get_context().get_world_rank()
    guards.checkpoints.check_room(1 if state.step else min(KEPT + 1, math.ceil(align.steps / align.checkpoint_every)))
    plan = batch_plan(examples, align, task.seed, task.collator)
    probed = validation[: align.probe_prompts]
    report = StepReporter(task.file("progress.json"), align.steps)
    for step in range(state.step, align.steps):
        learning_rate = engine.get_lr()[0]
        metrics = train_step(engine, examples, plan, step, loss_weights(align, step), task.collator)
        row = {"step": step + 1, "learning_rate": learning_rate, **asdict(metrics)}
        last = step + 1 == align.steps
        if last or (step + 1) % align.probe_every == 0:
            row |= summary(look(engine, probed, align.micro_batch_tokens, task.collator))
        state = replace(state, step=step + 1, history=[*state.history, row])
        guards.watchdog.alive()
        due = guards.notices.new() or last or state.step % align.checkpoint_every == 0
        if rank == 0:
            report(state.step, f"loss {metrics.loss:.4f}")
        if due:
            guards.checkpoints.check_room(1)
        if due and rank == 0:  # before the checkpoint: what it holds is then never missing here
            storage.write_jsonl(task.file("metrics.jsonl"), state.history)
        if due:
            guards.checkpoints.save(state)
    return state
