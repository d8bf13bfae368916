"""TRL's SFTTrainer + PEFT on the alignment benchmarks' model and sequences, and the settings that are tried."""

import tempfile
import time
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, TrainerCallback
from trl import SFTConfig, SFTTrainer

from benchmarks.align_data import BATCH, LEARNING_RATE, LORA
from presafe.records import Example

GROUPED = {"train_sampling_strategy": "group_by_length"}


def _batches_of(size: int) -> dict[str, Any]:
    return {"per_device_train_batch_size": size, "gradient_accumulation_steps": BATCH // size}


SETTINGS: dict[str, dict[str, Any]] = {
    "one sequence a pass": _batches_of(1),
    "length grouping, 2 a pass": {**GROUPED, **_batches_of(2)},
    "length grouping, 4 a pass": {**GROUPED, **_batches_of(4)},
    "length grouping, all a pass": {**GROUPED, **_batches_of(BATCH)},
    "padding-free, 4 a pass": {"padding_free": True, "max_length": None, **_batches_of(4)},
    "packing to 1088": {"packing": True, "max_length": 1088, "per_device_train_batch_size": 4},
    "packing to 2048": {"packing": True, "max_length": 2048, "per_device_train_batch_size": 2},
    "padded, all a pass": _batches_of(BATCH),
}
"""The loss is chunked and gradient checkpointing off in all of them; packed rows make steps of about as many tokens."""
FASTEST = "padding-free, 4 a pass"


class Clock(TrainerCallback):
    """`Trainer.train` sets up a loader and an optimizer anew at each call: its steps alone are timed."""

    begin = end = 0.0

    def on_step_begin(self, *arguments: Any, **_: Any) -> None:
        _, state, _ = arguments
        if state.global_step == 0:
            self.begin = time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.end = time.process_time()


class Trl:
    """SFTTrainer + PEFT over the same sequences; `base` is a model, or its folder."""

    def __init__(self, base: Any, data: list[Example], **changes: Any) -> None:
        torch.set_num_threads(1)
        rows = {
            "input_ids": [e.prompt + e.completion for e in data],
            "labels": [[-100] * len(e.prompt) + e.completion for e in data],
        }
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>")),
            pad_token="<pad>",
            eos_token="<eos>",
        )
        arguments = {
            "per_device_train_batch_size": BATCH,
            "num_train_epochs": 1,
            "max_length": 2048,
            "learning_rate": LEARNING_RATE,
            "lr_scheduler_type": "constant",
            "weight_decay": 0.0,
            "loss_type": "chunked_nll",
            "gradient_checkpointing": False,
            "bf16": False,
            "use_cpu": True,
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
            "logging_strategy": "no",
            "model_init_kwargs": {"dtype": torch.float32},
            **changes,
        }
        self.folder = tempfile.TemporaryDirectory()
        self.trainer = SFTTrainer(
            model=base,
            args=SFTConfig(output_dir=self.folder.name, **arguments),
            train_dataset=Dataset.from_dict(rows),
            processing_class=tokenizer,
            peft_config=LoraConfig(
                r=LORA.r, lora_alpha=LORA.alpha, target_modules=LORA.target_modules, task_type="CAUSAL_LM"
            ),
        )
        self.clock = Clock()
        self.trainer.add_callback(self.clock)
        self.tokens = sum(len(e.completion) for e in data)

    def train(self) -> float:
        """CPU seconds of one epoch, from the first step's beginning to the last one's end."""
        self.trainer.train()
        return self.clock.end - self.clock.begin
