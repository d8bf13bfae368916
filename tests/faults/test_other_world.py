"""A checkpoint of two ranks goes on with one, and again with two, as if nothing had happened."""

import json
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from presafe.align.module.build import build_module, build_optimizer
from presafe.align.module.collate import Collator
from presafe.align.module.model import HeadSpec
from presafe.align.module.zero import sharded_loading, start_engine, zero_config
from presafe.align.resume.universal import LOAD_SETTINGS, SAVE_INFO, convert, load, sharded
from presafe.align.train.draw import Draw
from presafe.align.train.loss import LossWeights
from presafe.align.train.plan import BatchPlan, batch_plan
from presafe.align.train.rows import ExampleRows
from presafe.align.train.step import train_step
from presafe.config import Align
from presafe.schedule import schedule
from support import save_random_model, small_align, uneven_examples

COLLATOR, SPEC, SEED = Collator(0, (), 0), HeadSpec("linear", 1), 3
EVERY, STEPS = 3, 9
HEAD = {"learning_rate": 0.02}  # a parameter group of its own
CASES = {
    "lora, ZeRO 0": {"zero_stage": 0},
    "lora, ZeRO 1": {"zero_stage": 1, "head": HEAD},
    "lora, ZeRO 2": {"zero_stage": 2, "head": HEAD},
    "lora, ZeRO 3": {"zero_stage": 3, "head": HEAD},
    "all weights, ZeRO 2": {"zero_stage": 2, "lora": None, "head": HEAD},
    "all weights, ZeRO 3": {"zero_stage": 3, "lora": None},
}


def case(name: str) -> Align:
    return small_align(learning_rate=0.003, steps=STEPS, gradient_checkpointing=False, **CASES[name])


def train(base: str, root: Path, name: str, first: int, last: int, *, other_world: bool) -> list[list[float]]:
    """Steps `first` to `last` of a case, from the last part's checkpoint to another one."""
    align, examples = case(name), ExampleRows.of(uneven_examples())
    config = zero_config(align, "float32") | (LOAD_SETTINGS if other_world else {})
    loading = sharded_loading(config)
    module = build_module(base, "float32", align, SPEC, SEED)
    del loading
    factor = schedule(align.learning_rate_schedule, align.steps)
    engine = start_engine(module, config, build_optimizer(module, align), factor)
    if first:
        if other_world:
            load(engine, f"{root}/{first}")
        else:
            engine.load_checkpoint(f"{root}/{first}", tag="zero", load_module_strict=False)
    draws = (Draw(len(examples), align.batch_size),)
    plan = BatchPlan(batch_plan(examples, align, SEED, COLLATOR).lengths, draws, align.micro_batch_tokens, SEED)
    rows = []
    for step in range(first, last):
        rates = [group["lr"] for group in engine.optimizer.param_groups]
        metrics = train_step(engine, examples, plan, step, LossWeights(0.7), COLLATOR)
        rows.append([metrics.loss, metrics.grad_norm, *rates])
    engine.save_checkpoint(f"{root}/{last}", tag="zero", client_state=SAVE_INFO, exclude_frozen_parameters=True)
    engine.destroy()
    return rows


def group(world: int, base: str, root: Path, first: int, last: int) -> dict[str, list[list[float]]]:
    """All cases on `world` forked ranks; the imports are this process's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    other_world = {name: first > 0 and sharded(f"{root}/{name}/{first}/zero") for name in CASES}
    for name in CASES:
        if other_world[name]:
            convert(f"{root}/{name}/{first}/zero", f"{root}/{name}/{first}")
    ranks = []
    for rank in range(world):
        if not (child := os.fork()):
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), LOCAL_RANK=str(rank))
            os.environ["WORLD_SIZE"] = str(world)
            code = 1
            try:
                torch.set_num_threads(1)
                dist.init_process_group("gloo", rank=rank, world_size=world)
                rows = {n: train(base, root / n, n, first, last, other_world=other_world[n]) for n in CASES}
                if rank == 0:
                    (root / "rows.json").write_text(json.dumps(rows))
                code = 0
            finally:
                os._exit(code)
        ranks.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in ranks] == [0] * world
    return json.loads((root / "rows.json").read_text())


def test_two_ranks_then_one_then_two_give_the_uninterrupted_runs_trajectory(tmp_path):
    base = save_random_model(str(tmp_path / "base"))
    expected = group(1, base, tmp_path / "whole", 0, STEPS)
    parts = [group(world, base, tmp_path / "parts", k * EVERY, (k + 1) * EVERY) for k, world in enumerate((2, 1, 2))]
    for name in CASES:
        found = torch.tensor([row for part in parts for row in part[name]])
        wanted = torch.tensor(expected[name])
        assert (wanted[-1, 0] - wanted[0, 0]).abs() > 1e-3, f"{name}: the steps must move the loss"
        assert found[:, 0].tolist() == pytest.approx(wanted[:, 0].tolist(), abs=1e-5), f"{name}: loss"
        assert found[:, 1].tolist() == pytest.approx(wanted[:, 1].tolist(), rel=1e-3, abs=1e-5), f"{name}: norm"
        assert torch.equal(found[:, 2:], wanted[:, 2:]), f"{name}: learning rates"
