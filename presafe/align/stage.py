"""Stage `align` (paper, Fig. 3, step 2): examples, training on Ray Train, and the exported model in `model/`."""

import logging
import math
from functools import partial

from ray.train import CheckpointConfig, FailureConfig, RunConfig, TrainingFailedError
from ray.train.torch import TorchTrainer

from presafe import storage
from presafe.align.checkpoint import KEPT, repair
from presafe.align.collate import Collator
from presafe.align.examples import Sources, training_examples, validation_examples
from presafe.align.fit import check_memory
from presafe.align.loop import train_worker
from presafe.align.model_card import describe_threshold
from presafe.align.objectives import objective
from presafe.align.room import lack
from presafe.align.shown import shown_prompts
from presafe.align.task import TrainTask
from presafe.config import Align, Config, ReadoutHead
from presafe.engines.card import Card, HeadCard, ShownPrompt, read_card
from presafe.engines.exported import load_tokenizer
from presafe.errors import UserError
from presafe.progress import progress, steps_done
from presafe.records import Example, Prompt, Signal, TeacherAnswer, Trace
from presafe.runtime import connect, demand, model_folder, preflight, user_errors
from presafe.stages import Rows, content_hash, run_stage, versions
from presafe.thinking import ThinkFormat, think_format
from presafe.tracking import check_tracker
from presafe.training_group import scaling, torch_config

logger = logging.getLogger("presafe")


def run_align(config: Config, *, force: bool = False) -> None:
    """Run the stage; its output is examples.parquet, metrics.jsonl, checkpoints/ and the exported `model/`."""
    run_stage(
        config.run_directory,
        "align",
        config.stage_settings("align"),
        partial(_align, config),
        inputs=("prompts", "teacher", "signals"),
        also_writes=("model",),
        force=force,
    )


def _align(config: Config, folder: str) -> Rows:
    check_tracker(config.run.tracker)
    workers = config.align.workers
    connect(config.cluster)
    preflight(demand("align", workers))
    if (error := lack(folder, 0)) is not None:
        raise error
    base = model_folder(config)
    check_memory(config, base)
    tokenizer = load_tokenizer(base)
    think = think_format(tokenizer, config.model.think)
    prompts, signals = _prompts_and_signals(config)
    rows = _write_examples(config, folder, think, prompts, signals)
    task = TrainTask(
        base=base,
        folder=folder,
        export_folder=config.run_directory.folder("model"),
        align=config.align,
        seed=config.run.seed,
        collator=Collator.of(think, tokenizer.pad_token_id),
        decision_token=think.decision_token,
        card=_card(config, base, think, rows, shown_prompts(prompts, signals)),
        run_name=config.run.name,
        tracker=config.run.tracker,
    )
    repair(task.checkpoints)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"task": task},
        scaling_config=scaling(workers),
        torch_config=torch_config(math.ceil(workers.timeout_minutes * 60)),
        run_config=RunConfig(
            name="checkpoints",
            storage_path=folder,
            failure_config=FailureConfig(max_failures=workers.max_failures, max_preemption_failures=-1),
            checkpoint_config=CheckpointConfig(num_to_keep=KEPT),
        ),
    )
    bar = progress(steps_done(task.file("progress.json")), config.align.steps, "align", "steps", rated=False)
    with bar, user_errors(TrainingFailedError):
        stopped = trainer.fit().return_value
    if stopped is not None:
        _forget(folder, task.checkpoints)
        raise UserError(stopped)
    logger.info("%-9s %s", "gate", describe_threshold(read_card(task.export_folder)))
    return rows


def _forget(folder: str, checkpoints: str) -> None:
    """Where no step is worth keeping, leave nothing that would keep a mended config from starting."""
    if not any(name.startswith("step-") for name in storage.names(checkpoints)):
        for name in storage.names(folder):
            if name != "started.json":
                storage.remove(storage.join(folder, name))


def _prompts_and_signals(config: Config) -> tuple[list[Prompt], dict[str, Signal]]:
    """All prompts of the run, and their signals by id."""
    run = config.run_directory
    prompts = storage.read_rows(storage.join(run.folder("prompts"), "prompts.parquet"), Prompt)
    signals = storage.read_rows(storage.join(run.folder("signals"), "signals.parquet"), Signal)
    return prompts, {row.prompt_id: row for row in signals}


def _write_examples(
    config: Config, folder: str, think: ThinkFormat, prompts: list[Prompt], signals: dict[str, Signal]
) -> Rows:
    teacher = config.run_directory.folder("teacher")
    rows = storage.stream_rows(storage.join(teacher, "answers.parquet"), TeacherAnswer)
    answers = {row.prompt_id: row for row in rows if row.sample == 0}
    traces = {r.prompt_id: r for r in storage.read_rows(storage.join(teacher, "traces.parquet"), Trace)}
    sources = Sources(answers, traces, signals)
    examples, skipped = training_examples(prompts, sources, think, config.align, config.run.seed)
    validation = validation_examples(prompts, signals, think, config.align.micro_batch_tokens)
    storage.write_rows(storage.join(folder, "examples.parquet"), examples, Example)
    storage.write_rows(storage.join(folder, "validation.parquet"), validation, Example)
    return {
        "refuse_examples": sum(example.path == "refuse" and bool(example.completion) for example in examples),
        "think_examples": sum(example.path == "think" and bool(example.completion) for example in examples),
        "signal_pool": sum(not example.completion for example in examples),
        "validation": len(validation),
        **{f"skipped, {reason}": count for reason, count in skipped.items()},
    }


def _card(config: Config, base: str, think: ThinkFormat, rows: Rows, examples: list[ShownPrompt]) -> Card:
    """The card before training: what is measured is filled in at export."""
    settings = config.stage_settings("align")
    return Card(
        base_model=base,
        dtype=config.model.dtype,
        weights="full" if config.align.lora is None else "adapter",
        think_format={
            "open_tag": think.open_tag,
            "close_tag": think.close_tag,
            "empty_block": think.empty_block,
            "opened_by_prompt": think.opened_by_prompt,
            "switch": think.switch,
            "end_of_turn": think.end_of_turn,
        },
        think=config.model.think,
        head=_head_card(config.align),
        threshold=1.0,
        max_over_refusal=config.gate.max_over_refusal,
        refusal=config.gate.refusal,
        examples=examples,
        config_hash=content_hash(settings),
        metrics={},
        training={**settings["align"], "seed": settings["seed"]},
        data=rows,
        versions=versions(),
    )


def _head_card(align: Align) -> HeadCard:
    """An objective that trains no head leaves the model's own decision to gate on."""
    where = objective(align).head
    if where == "none" or isinstance(align.head, ReadoutHead):
        return HeadCard(kind="readout")
    return HeadCard(kind="linear" if where == "pre_cot" else "mean", layer=align.head.layer)
