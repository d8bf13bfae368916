"""What each training worker runs: build or shard the model, resume, train, calibrate, export."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import ray.train

from presafe import storage
from presafe.align.export.export import export_model
from presafe.align.export.round_trip import RoundTripError
from presafe.align.module.build import build_module, build_optimizer, head_spec
from presafe.align.module.zero import sharded_loading, start_engine, zero_config
from presafe.align.resume.agreed import AgreedError
from presafe.align.resume.checkpoint import KEPT, Checkpoints, Saved, TrainerState, last_checkpoint, restore
from presafe.align.resume.preemption import Notices
from presafe.align.resume.universal import LOAD_SETTINGS
from presafe.align.train.guards import Guards
from presafe.align.train.loss import loss_weights
from presafe.align.train.plan import batch_plan
from presafe.align.train.probe import chosen, look, summary
from presafe.align.train.record import RunRecord
from presafe.align.train.rows import ExampleRows, local_rows
from presafe.align.train.step import train_step
from presafe.align.train.task import TrainTask
from presafe.align.train.watchdog import Watchdog
from presafe.decision.rule import decide
from presafe.decision.threshold import calibrate, refusals_allowed
from presafe.engines.card import Calibration, Card
from presafe.errors import UserError
from presafe.records import Example
from presafe.schedule import schedule
from presafe.statistics import tail_bound
from presafe.tracking import tracker


def train_worker(loop_config: dict[str, Any]) -> str | None:
    """Ray Train's entry, on every rank. Returns what stopped the run where trying again would only meet it again."""
    try:
        _align(loop_config["task"])
    except (AgreedError, RoundTripError) as error:
        return str(error)
    return None


def _align(task: TrainTask) -> None:
    examples = local_rows(task.file("examples.parquet"))
    validation = storage.read_rows(task.file("validation.parquet"), Example)
    with Watchdog(task.align.workers.timeout_minutes * 60) as watchdog:
        with last_checkpoint() as saved:
            module, engine = _engine(task, saved)
            state = restore(engine, saved, task.seed)
        guards = Guards(Checkpoints(task.checkpoints, engine), Notices(), watchdog)
        with guards.notices.patience():
            state = _train(engine, examples, validation, task, state, guards)
    if task.export_folder is not None:
        card = _calibrated(engine, validation, task, state)
        try:
            export_model(engine, module, card, task.export_folder, validation, task.collator, task.align)
        except UserError as error:  # of rank 0, for which nobody waits: a full disk, a storage that refuses
            raise AgreedError(str(error)) from error


def _engine(task: TrainTask, saved: Saved | None) -> tuple[Any, Any]:
    """The module and the DeepSpeed engine around it, ready to load `saved`."""
    align = task.align
    config = zero_config(align, task.card.dtype)
    if saved is not None and saved.of_another_world:
        config |= LOAD_SETTINGS
    loading = sharded_loading(config)
    module = build_module(task.base, task.card.dtype, align, head_spec(align, task.decision_token), task.seed)
    del loading
    rates = schedule(align.learning_rate_schedule, align.steps)
    return module, start_engine(module, config, build_optimizer(module, align), rates)


def _train(
    engine: Any,
    examples: ExampleRows,
    validation: Sequence[Example],
    task: TrainTask,
    state: TrainerState,
    guards: Guards,
) -> TrainerState:
    align, first = task.align, ray.train.get_context().get_world_rank() == 0
    guards.checkpoints.check_room(1 if state.step else min(KEPT + 1, math.ceil(align.steps / align.checkpoint_every)))
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
            guards.watchdog.alive()
            due = guards.notices.new() or last or state.step % align.checkpoint_every == 0
            if due:
                guards.checkpoints.check_room(1)
            if first:  # before the checkpoint: what it holds is then never missing in metrics.jsonl
                record.add(row, now=due)
            if due:
                guards.checkpoints.save(state)
                if first:
                    record.committed()
    return state


def _calibrated(engine: Any, validation: Sequence[Example], task: TrainTask, state: TrainerState) -> Card:
    """The card with the gate's threshold, what it refuses of benign prompts, and the last metrics."""
    looks = look(engine, validation, task.align.micro_batch_tokens, task.collator)
    benign = [seen.probability for seen in looks if seen.path == "think"]
    allowed = task.card.max_over_refusal
    threshold = calibrate(benign, allowed)
    calibration = Calibration(
        prompts=len(benign),
        refused=sum(decide(p, threshold) == "refuse" for p in benign),
        over_refusal_bound=tail_bound(refusals_allowed(len(benign), allowed), len(benign)),
    )
    metrics = {name: value for name, value in state.history[-1].items() if name != "seconds"}
    measured = {"threshold": threshold, "over_refusal": calibration.refused / calibration.prompts}
    return task.card.model_copy(update={**measured, "calibration": calibration, "metrics": metrics})
