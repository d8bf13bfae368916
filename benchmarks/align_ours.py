"""Our side of the alignment benchmarks: the stage's plan, packing, DeepSpeed engine and step, without Ray around it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM

from benchmarks.align_data import BATCH, LEARNING_RATE, LORA
from presafe.align.module.build import build_optimizer, equip, head_spec
from presafe.align.module.collate import Collator
from presafe.align.module.kernels import attention
from presafe.align.module.zero import start_engine, zero_config
from presafe.align.train.loss import loss_weights
from presafe.align.train.plan import batch_plan
from presafe.align.train.rows import ExampleRows
from presafe.align.train.step import StepMetrics, train_step
from presafe.config import Align
from presafe.records import Example

DECISION_TOKEN = 1
COLLATOR = Collator(0, (2, DECISION_TOKEN, 2), 1)


def settings(**changes: object) -> Align:
    base = {"lora": LORA, "learning_rate": LEARNING_RATE, "batch_size": BATCH, "zero_stage": 1}
    return Align.model_validate({**base, "micro_batch_tokens": 1104, "gradient_checkpointing": False, **changes})


class Ours:
    """The stage's training without Ray: an engine over the process group there is, stepped by hand."""

    def __init__(self, lm: Any, data: list[Example], align: Align, dtype: str = "float32") -> None:
        module = equip(lm, align, head_spec(align, DECISION_TOKEN), seed=0)
        self.engine = start_engine(module, zero_config(align, dtype), build_optimizer(module, align))
        self.data, self.align, self.step = ExampleRows.of(data), align, 0
        self.plan = batch_plan(self.data, align, 0, COLLATOR)

    @classmethod
    def load(cls, base: str, data: list[Example], align: Align) -> "Ours":
        """On one thread, from a folder, in float32."""
        torch.set_num_threads(1)
        implementation = attention(align, "float32")
        return cls(AutoModelForCausalLM.from_pretrained(base, attn_implementation=implementation), data, align)

    def train(self, steps: int) -> list[StepMetrics]:
        done = []
        for step in range(self.step, self.step + steps):
            weights = loss_weights(self.align, step)
            done.append(train_step(self.engine, self.data, self.plan, step, weights, COLLATOR))
        self.step += steps
        return done


@contextmanager
def process_group(rank: int = 0, world_size: int = 1, file: str | None = None, backend: str = "gloo") -> Iterator[None]:
    """A group of this process and its like; `file` is where they meet."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"LOCAL_RANK": str(rank), "RANK": str(rank), "WORLD_SIZE": str(world_size)}
        meeting = f"file://{file or folder + '/group'}"
        dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=world_size)
        yield
        dist.destroy_process_group()
