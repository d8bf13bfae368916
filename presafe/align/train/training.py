"""Parts `train` and `export` of stage `align`: one Ray Train run, which goes on where it was interrupted."""

import logging
import math

from ray.train import CheckpointConfig, FailureConfig, RunConfig, TrainingFailedError
from ray.train.torch import TorchTrainer

from presafe import storage
from presafe.align.export.model_card import describe_threshold
from presafe.align.export.shown import shown_prompts
from presafe.align.module.collate import Collator
from presafe.align.objectives import objective
from presafe.align.preflight.fit import check_memory
from presafe.align.resume.checkpoint import KEPT, repair
from presafe.align.resume.room import lack
from presafe.align.train.loop import train_worker
from presafe.align.train.task import TrainTask
from presafe.cluster.check import LOCAL_MODELS, check_cluster
from presafe.cluster.demand import demand
from presafe.cluster.options import runtime_env
from presafe.config import Align, Config, ReadoutHead
from presafe.engines.card import Card, HeadCard, ShownPrompt, read_card
from presafe.engines.exported import load_tokenizer
from presafe.errors import UserError, user_error
from presafe.progress import progress, steps_done
from presafe.records import Prompt, Signal
from presafe.runtime import connect, model_folder, user_errors
from presafe.stages import Rows, content_hash, versions
from presafe.thinking import ThinkFormat, think_format
from presafe.tracking import check_tracker
from presafe.training_group import scaling, torch_config

logger = logging.getLogger("presafe")

METRICS, SHARDING = "metrics.jsonl", "sharding.json"
TRAINED = ("checkpoints", METRICS, SHARDING, "progress.json", "tensorboard")
"""What part `train` writes."""


class Training:
    """The Ray Train run of a stage. Its last checkpoint is what is exported, at once or later."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._exported = False

    def train(self, folder: str) -> Rows:
        """Train, and export in the same run where no export is there that is to be kept."""
        self._exported = self._config.run_directory.part("align", "export") is None
        self._fit(folder, export=self._exported)
        return {"steps": self._config.align.steps}

    def export(self, folder: str) -> Rows:
        if not self._exported:
            self._fit(folder, export=True)
        logger.info("%-9s %s", "gate", describe_threshold(read_card(self._config.run_directory.folder("model"))))
        return {}

    def _fit(self, folder: str, *, export: bool) -> None:
        config, workers = self._config, self._config.align.workers
        check_tracker(config.run.tracker)
        connect(config.cluster)
        check_cluster(demand("align", workers), config.cluster, (*LOCAL_MODELS, "peft", "deepspeed"))
        if (error := lack(folder, 0)) is not None:
            raise error
        base = model_folder(config)
        check_memory(config, base)
        tokenizer = load_tokenizer(base)
        think = think_format(tokenizer, config.model.think)
        task = TrainTask(
            base=base,
            folder=folder,
            export_folder=config.run_directory.folder("model") if export else None,
            align=config.align,
            seed=config.align_seed,
            collator=Collator.of(think, tokenizer.pad_token_id),
            decision_token=think.decision_token,
            card=card_before(config, base, think, _shown_prompts(config)),
            run_name=config.run.name,
            tracker=config.run.tracker,
        )
        _check_sharding(folder, task.checkpoints, config.align)
        repair(task.checkpoints)
        files, path = storage.arrow_file_system(folder)
        trainer = TorchTrainer(
            train_worker,
            train_loop_config={"task": task},
            scaling_config=scaling(workers),
            torch_config=torch_config(math.ceil(workers.timeout_minutes * 60)),
            run_config=RunConfig(
                name="checkpoints",
                storage_path=path,
                storage_filesystem=files,
                failure_config=FailureConfig(max_failures=workers.max_failures, max_preemption_failures=-1),
                checkpoint_config=CheckpointConfig(num_to_keep=KEPT),
                worker_runtime_env=runtime_env(workers.environment),
            ),
        )
        bar = progress(steps_done(task.file("progress.json")), config.align.steps, "align", "steps", rated=False)
        with bar, user_errors(TrainingFailedError):
            stopped = trainer.fit().return_value
        if stopped is not None:
            _forget(task.checkpoints)
            raise UserError(stopped)


def _check_sharding(folder: str, checkpoints: str, align: Align) -> None:
    """Raise UserError where checkpoints were cut in another way than this run would load them."""
    path, wanted = storage.join(folder, SHARDING), {"zero_stage": align.zero_stage, "offload": align.offload}
    found = storage.read_json(path) if storage.exists(path) else wanted
    if found != wanted and storage.exists(checkpoints) and _steps(checkpoints):
        raise user_error(
            found=f"checkpoints of align.zero_stage={found['zero_stage']} and offload={found['offload']} in {folder}",
            needed="the same settings to go on from them",
            change="set them back, or pass --force to train from the start",
        )
    storage.write_json(path, wanted)


def _steps(checkpoints: str) -> list[str]:
    return [name for name in storage.names(checkpoints) if name.startswith("step-")]


def _forget(checkpoints: str) -> None:
    """Where no step is worth keeping, leave nothing that would keep a mended config from starting."""
    if not _steps(checkpoints):
        folder = checkpoints.rsplit("/", 1)[0]
        for name in TRAINED:
            storage.remove(storage.join(folder, name))


def _shown_prompts(config: Config) -> list[ShownPrompt]:
    run = config.run_directory
    prompts = storage.stream_rows(storage.join(run.folder("prompts"), "prompts.parquet"), Prompt)
    held_out = [prompt for prompt in prompts if prompt.split == "validation"]
    ids = {prompt.prompt_id for prompt in held_out}
    signals = storage.stream_rows(storage.join(run.folder("signals"), "signals.parquet"), Signal)
    return shown_prompts(held_out, {row.prompt_id: row for row in signals if row.prompt_id in ids})


def card_before(config: Config, base: str, think: ThinkFormat, examples: list[ShownPrompt]) -> Card:
    """The card before training: what is measured is filled in at export."""
    settings = {"align": config.align.results(), "model": config.model.results(), "seed": config.align_seed}
    chosen = config.run_directory.part("align", "examples") or {}
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
        training={**config.align.results(), "seed": config.align_seed},
        data=chosen.get("rows", {}),
        versions=versions(),
    )


def _head_card(align: Align) -> HeadCard:
    """An objective that trains no head leaves the model's own decision to gate on."""
    where = objective(align).head
    if where == "none" or isinstance(align.head, ReadoutHead):
        return HeadCard(kind="readout")
    return HeadCard(kind="linear" if where == "pre_cot" else "mean", layer=align.head.layer)
