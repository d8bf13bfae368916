"""Committed checkpoints: what a killed worker or driver resumes from, bit by bit."""

import json
import os
import random
import tempfile
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import ray.train
import torch
from ray.train import Checkpoint, CheckpointConsistencyMode

from presafe.errors import user_error


@dataclass(frozen=True)
class TrainerState:
    """All that a resume needs beside DeepSpeed's own files: the plan is a function of `step`."""

    step: int
    world_size: int
    history: list[dict[str, float]]


def save(engine: Any, state: TrainerState) -> None:
    """Every rank calls it. Returns once Ray's controller has registered the checkpoint.

    `ray.train.report` alone returns earlier, and a kill in between would lose two intervals.
    """
    rank = ray.train.get_context().get_world_rank()
    folder = tempfile.mkdtemp(prefix="presafe-checkpoint-")
    engine.save_checkpoint(folder, tag="zero", exclude_frozen_parameters=True)
    torch.save(_random_state(), f"{folder}/random_{rank}.pt")
    if rank == 0:
        with open(f"{folder}/state.json", "w", encoding="utf-8") as file:
            json.dump(asdict(state), file)
    ray.train.report(
        state.history[-1],
        checkpoint=Checkpoint.from_directory(folder),
        checkpoint_dir_name=f"step-{state.step:06d}",
        delete_local_checkpoint_after_upload=True,
    )
    ray.train.get_all_reported_checkpoints(consistency_mode=CheckpointConsistencyMode.COMMITTED)


def restore(engine: Any) -> TrainerState:
    """Load the last committed checkpoint into the engine, or the state of step 0 without one."""
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return TrainerState(0, world, [])
    with checkpoint.as_directory() as folder:
        with open(f"{folder}/state.json", encoding="utf-8") as file:
            state = TrainerState(**json.load(file))
        if state.world_size != world:
            raise user_error(
                found=f"a checkpoint of {state.world_size} training worker(s)",
                needed=f"one of {world}",
                change=f"set align.workers.num_workers={state.world_size}, or start afresh with --force",
            )
        engine.load_checkpoint(folder, tag="zero", load_module_strict=False)
        path = f"{folder}/random_{rank}.pt"
        assert os.path.exists(path)
        _set_random_state(torch.load(path, weights_only=False))
    return state


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def _set_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])
