"""Committed checkpoints: what a killed worker, node or driver resumes from, bit by bit where the ranks are as many."""

import glob
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import ray
import ray.train
import torch
import torch.distributed as dist
from ray.train import Checkpoint, CheckpointConsistencyMode, CheckpointUploadMode
from transformers import set_seed

from presafe import storage
from presafe.align.resume import universal
from presafe.align.resume.agreed import agree
from presafe.align.resume.room import expected_bytes, lack
from presafe.errors import UserError
from presafe.stages import content_hash

TAG = "zero"
REGISTER, COPY = "checkpoint_manager_snapshot.json", "last_committed.json"
"""Ray Train's list of the committed checkpoints, and what it was after the last one."""
KEPT = 2
"""Checkpoints kept. The last one is enough; the one before it is for a human who doubts it."""


@dataclass(frozen=True)
class TrainerState:
    """All that a resume needs beside DeepSpeed's own files: the plan is a function of `step`."""

    step: int
    world_size: int
    history: list[dict[str, float]]


@dataclass(frozen=True)
class Saved:
    """The last committed checkpoint, in a local folder."""

    folder: str
    state: TrainerState

    @property
    def of_another_world(self) -> bool:
        """Whether ZeRO cut it for another number of ranks. Without ZeRO every rank reads the same file."""
        same = self.state.world_size == ray.train.get_context().get_world_size()
        return not same and universal.sharded(f"{self.folder}/{TAG}")


class Checkpoints:
    """Writes the engine's checkpoints to a folder, a path or URL, in which Ray Train keeps the run's."""

    def __init__(self, folder: str, engine: Any) -> None:
        self._folder, self._engine = folder, engine
        self._bytes = expected_bytes(p for p in engine.module.parameters() if p.requires_grad)
        node = ray.get_runtime_context().get_node_id()
        self._local = f"{tempfile.gettempdir()}/presafe-checkpoint-{node}-{content_hash(folder)}"
        if ray.train.get_context().get_local_rank() == 0:
            for left in glob.glob(f"{self._local}-*"):  # of a group that was killed
                shutil.rmtree(left)

    def check_room(self, count: int) -> None:
        """Raise AgreedError on every rank where any node could not write `count` more checkpoints."""
        agree(lack(self._folder, count * self._bytes) if ray.train.get_context().get_local_rank() == 0 else None)

    def save(self, state: TrainerState) -> None:
        """Every rank calls it. Returns once Ray's controller has registered the checkpoint.

        `ray.train.report` alone returns earlier, and a kill in between would lose two intervals.
        """
        rank = ray.train.get_context().get_world_rank()
        # The world is in the name: what a killed group of another size left must not mix with this one's files.
        name = f"step-{state.step:06d}-of-{state.world_size}"
        local = storage.is_local(self._folder)
        folder = storage.join(self._folder, name) if local else f"{self._local}-{rank}"
        try:
            self._write(folder, state)
        except Exception as error:
            if not local:
                shutil.rmtree(folder, ignore_errors=True)
            if storage.is_full(error):
                raise storage.full(os.path.dirname(folder)) from error
            raise
        self._register(folder, name, state, upload=not local)

    def _write(self, folder: str, state: TrainerState) -> None:
        rank = ray.train.get_context().get_world_rank()
        os.makedirs(folder, exist_ok=True)
        self._engine.save_checkpoint(folder, tag=TAG, client_state=universal.SAVE_INFO, exclude_frozen_parameters=True)
        torch.save(_random_state(), f"{folder}/random_{rank}.pt")
        if rank == 0:
            storage.write_json(f"{folder}/state.json", asdict(state))

    def _register(self, folder: str, name: str, state: TrainerState, *, upload: bool) -> None:
        ray.train.report(
            state.history[-1],
            checkpoint=Checkpoint.from_directory(folder),
            checkpoint_dir_name=name,
            checkpoint_upload_mode=CheckpointUploadMode.SYNC if upload else CheckpointUploadMode.NO_UPLOAD,
            delete_local_checkpoint_after_upload=upload,
        )
        ray.train.get_all_reported_checkpoints(consistency_mode=CheckpointConsistencyMode.COMMITTED)
        if ray.train.get_context().get_world_rank() == 0:
            _copy(storage.join(self._folder, REGISTER), storage.join(self._folder, COPY))


def repair(checkpoints: str) -> None:
    """Before a run goes on: Ray Train writes its list in place, and a driver killed meanwhile leaves half of it."""
    register, copy = storage.join(checkpoints, REGISTER), storage.join(checkpoints, COPY)
    if storage.exists(register):
        try:
            storage.read_json(register)
        except UserError:
            storage.remove(register)
            if storage.exists(copy):
                _copy(copy, register)


def _copy(source: str, target: str) -> None:
    storage.write_text(target, storage.read_text(source))


@contextmanager
def last_checkpoint() -> Iterator[Saved | None]:
    """The last committed checkpoint while the body runs, or None before the first."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as folder, open(f"{folder}/state.json", encoding="utf-8") as file:
        yield Saved(folder, TrainerState(**json.load(file)))


def restore(engine: Any, saved: Saved | None, seed: int) -> TrainerState:
    """Bring the engine and this rank's random numbers to where `saved` left them, or to step 0 without one.

    A rank that `saved` does not know has random numbers of `seed`, its rank and the step; so has any rank at step 0.
    """
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    step = 0 if saved is None else saved.state.step
    set_seed((seed + 1_000_003 * step + rank) % 2**32)  # dropout differs over ranks
    if saved is None:
        return TrainerState(0, world, [])
    if saved.of_another_world:
        with _converted(saved.folder) as folder:
            universal.load(engine, folder)
    else:
        engine.load_checkpoint(saved.folder, tag=TAG, load_module_strict=False)
    path = f"{saved.folder}/random_{rank}.pt"
    if os.path.exists(path):
        _set_random_state(torch.load(path, weights_only=False))
    return TrainerState(step, world, saved.state.history)


@contextmanager
def _converted(folder: str) -> Iterator[str]:
    """The checkpoint of `folder` for this number of ranks, while the body runs. Every rank calls it.

    Each node converts for itself, on its own disk: the checkpoint is there already, and nothing has to be shared.
    """
    target = f"{tempfile.gettempdir()}/presafe-universal-{ray.get_runtime_context().get_job_id()}"
    first = ray.train.get_context().get_local_rank() == 0
    try:
        if first:
            shutil.rmtree(target, ignore_errors=True)  # of a worker killed while it converted
            universal.convert(f"{folder}/{TAG}", target)
        dist.barrier()
        yield target
        dist.barrier()
    finally:
        if first:
            shutil.rmtree(target, ignore_errors=True)


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
