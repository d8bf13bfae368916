"""What each training worker runs: build or shard the model, resume, train, calibrate, export."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import ray.train
import torch
import torch.distributed as dist
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, set_seed

from presafe import storage
from presafe.align.checkpoint import TrainerState, restore, save
from presafe.align.collate import pack
from presafe.align.export import export_model
from presafe.align.model import PreSafeModel
from presafe.align.plan import BatchPlan
from presafe.align.step import train_step
from presafe.align.zero import sharded_loading, start_engine, zero_config
from presafe.config import Align
from presafe.engines.exported import Card
from presafe.engines.head import SafetyHead
from presafe.gate import calibrate
from presafe.progress import StepReporter
from presafe.records import Example
from presafe.schedule import warmup_cosine


@dataclass(frozen=True)
class TrainTask:
    """What a worker needs: the base, the example files, the settings, and the card to complete at export."""

    base: str
    examples: str
    validation: str
    metrics: str
    progress: str
    export_folder: str
    align: Align
    seed: int
    pad_id: int
    card: Card


def train_worker(loop_config: dict[str, Any]) -> None:
    """Ray Train's entry, on every rank."""
    task: TrainTask = loop_config["task"]
    align = task.align
    examples = storage.read_rows(task.examples, Example)
    config = zero_config(align, task.card.dtype)
    loading = sharded_loading(config)
    module = build_module(task.base, task.card.dtype, align, task.seed)
    del loading
    optimizer = torch.optim.AdamW(
        [p for p in module.parameters() if p.requires_grad], lr=align.learning_rate, weight_decay=0.0
    )
    engine = start_engine(module, config, optimizer, warmup_cosine(align.steps, align.warmup_share))
    set_seed(task.seed + dist.get_rank())  # dropout differs over ranks
    state = restore(engine)
    plan = batch_plan(examples, align, task.seed)
    state = _train(engine, examples, plan, task, state)
    probabilities = head_probabilities(engine, storage.read_rows(task.validation, Example), task)
    benign = [p for path, p in probabilities if path == "think"]
    threshold = calibrate(benign, task.card.max_over_refusal)
    card = task.card.model_copy(update={"threshold": threshold, "metrics": state.history[-1]})
    export_model(engine, module, card, task.export_folder, merge=align.merge)


def build_module(base: str, dtype: str, align: Align, seed: int) -> PreSafeModel:
    """The base with LoRA adapters and a fresh safety head, both float32 (under ZeRO-3 they must share a dtype)."""
    lm = AutoModelForCausalLM.from_pretrained(storage.local_folder(base), dtype=getattr(torch, dtype))
    set_seed(seed)  # the same adapters and head on every rank
    if align.gradient_checkpointing:
        lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    lora = LoraConfig(
        r=align.lora.r,
        lora_alpha=align.lora.alpha,
        lora_dropout=align.lora.dropout,
        target_modules=align.lora.target_modules,
        task_type=TaskType.CAUSAL_LM,
    )
    head = SafetyHead(lm.config.hidden_size)
    return PreSafeModel(get_peft_model(lm, lora), head).train()


def batch_plan(examples: Sequence[Example], align: Align, seed: int) -> BatchPlan:
    lengths = tuple(len(example.prompt) + len(example.completion) for example in examples)
    return BatchPlan(lengths, align.batch_size, align.micro_batch_tokens, seed)


def head_probabilities(engine: Any, examples: Sequence[Example], task: TrainTask) -> list[tuple[str, float]]:
    """(path, p') of every example, on every rank; runs through the engine's own forward, as ZeRO-3 requires."""
    align = task.align.model_copy(update={"batch_size": len(examples)})
    own = batch_plan(examples, align, task.seed).microbatches(0, dist.get_world_size())[dist.get_rank()]
    found: list[tuple[str, float]] = []
    engine.eval()
    with torch.no_grad():
        for indices in own:
            output = engine(**pack([examples[i] for i in indices], task.pad_id).to(engine.device))
            values = output.head_logits.sigmoid().tolist()
            found += [(examples[i].path, value) for i, value in zip(indices, values, strict=True)]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, found)
    return [item for part in gathered for item in part]


def _train(
    engine: Any, examples: Sequence[Example], plan: BatchPlan, task: TrainTask, state: TrainerState
) -> TrainerState:
    align, rank = task.align, ray.train.get_context().get_world_rank()
    report = StepReporter(task.progress, align.steps)
    for step in range(state.step, align.steps):
        metrics = train_step(engine, examples, plan, step, weight=align.weight, pad_id=task.pad_id)
        row = {"step": step + 1, "learning_rate": engine.get_lr()[0], **asdict(metrics)}
        state = replace(state, step=step + 1, history=[*state.history, row])
        due = state.step % align.checkpoint_every == 0 or state.step == align.steps
        if rank == 0:
            report(state.step, f"loss {metrics.loss:.4f}")
        if due and rank == 0:  # before the checkpoint: what it holds is then never missing here
            storage.write_jsonl(task.metrics, state.history)
        if due:
            save(engine, state)
    return state
