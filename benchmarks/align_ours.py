"""Our side of the alignment benchmarks: the stage's plan, packing, DeepSpeed engine and step, without Ray around it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from benchmarks.align_data import BATCH, LEARNING_RATE, LORA
from presafe.align.build import build_module, build_optimizer, head_spec
from presafe.align.collate import Collator
from presafe.align.loop import batch_plan, loss_weights
from presafe.align.step import train_step
from presafe.align.zero import start_engine, zero_config
from presafe.config import Align
from presafe.records import Example

DECISION_TOKEN = 1
COLLATOR = Collator(0, (2, DECISION_TOKEN, 2), 1)


def settings(**changes: object) -> Align:
    base = {"lora": LORA, "learning_rate": LEARNING_RATE, "batch_size": BATCH, "zero_stage": 1}
    return Align.model_validate({**base, "micro_batch_tokens": 2048, "gradient_checkpointing": False, **changes})


class Ours:
    """The stage's training without Ray: an engine over the process group there is, stepped by hand."""

    def __init__(self, base: str, data: list[Example], align: Align) -> None:
        torch.set_num_threads(1)
        module = build_module(base, "float32", align, head_spec(align, DECISION_TOKEN), seed=0)
        self.engine = start_engine(module, zero_config(align, "float32"), build_optimizer(module, align))
        self.data, self.align, self.step = data, align, 0
        self.plan = batch_plan(data, align, 0, COLLATOR)

    def train(self, steps: int) -> int:
        """Target tokens trained on."""
        tokens = 0
        for _ in range(steps):
            weights = loss_weights(self.align, self.step)
            metrics = train_step(self.engine, self.data, self.plan, self.step, weights, COLLATOR)
            tokens += metrics.target_tokens
            self.step += 1
        return tokens


@contextmanager
def process_group(rank: int = 0, world_size: int = 1, file: str | None = None) -> Iterator[None]:
    """A gloo group of this process and its like; `file` is where they meet."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"LOCAL_RANK": str(rank), "RANK": str(rank), "WORLD_SIZE": str(world_size)}
        meeting = f"file://{file or folder + '/group'}"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world_size)
        yield
        dist.destroy_process_group()
