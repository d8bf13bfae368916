"""Preflight of the alignment: refuses what cannot fit before it starts, and names the nearest settings that do."""

import logging
import math
from collections.abc import Iterator
from itertools import product

from presafe.align.preflight.memory import Prediction, Ranks, predict
from presafe.align.preflight.shape import Shape, read_shape
from presafe.cluster.capacity import GB, Capacity, cluster_capacity
from presafe.config import Align, Config
from presafe.errors import user_error

STAGES = (0, 1, 2, 3)
OFFLOADS = ("none", "optimizer", "parameters")
FEWEST_TOKENS = 1024
"""Smallest micro-batch that is proposed: shorter ones would leave most chains of thought out."""
MOST_RANKS = 64

logger = logging.getLogger("presafe")


def check_memory(config: Config, base: str) -> None:
    """Raise UserError where the stage would not fit into the connected cluster with its fewest ranks."""
    workers = config.align.workers
    shape = read_shape(base, config.align.lora)
    capacity = cluster_capacity(workers, workers.limits[0], "align")
    refuse_misfit(shape, config.align, config.model.dtype, capacity)


def refuse_misfit(shape: Shape, align: Align, dtype: str, capacity: Capacity) -> None:
    """Raise UserError with the prediction, what there is, and the nearest settings that fit; log it where it fits."""
    fewest = align.workers.limits[0]
    prediction = predicted(shape, align, dtype, fewest, capacity)
    if fits(prediction, fewest, capacity):
        device = "" if capacity.device is None else f"{prediction.device_bytes / GB:.1f} GB on each GPU, "
        logger.info("align: predicted %s%.1f GB of a node's memory", device, prediction.host_bytes / GB)
        return
    if capacity.device is not None and prediction.device_bytes > capacity.device:
        found = f"{prediction.device_bytes / GB:.1f} GB on each GPU ({_largest(prediction.device)})"
        needed = f"{capacity.device / GB:.1f} GB, what one has"
    else:
        found = f"{prediction.host_bytes / GB:.1f} GB of a node's memory ({_largest(prediction.host)})"
        needed = f"{max(memory for _, memory in capacity.nodes) / GB:.1f} GB, what the largest has"
    raise user_error(
        found=f"an alignment that needs {found}",
        needed=f"at most {needed}",
        change=nearest(shape, align, dtype, capacity),
    )


def predicted(shape: Shape, align: Align, dtype: str, ranks: int, capacity: Capacity) -> Prediction:
    per_node = max((slots for slots, _ in capacity.nodes), default=ranks)
    return predict(shape, align, dtype, Ranks(ranks, per_node, capacity.device is not None))


def fits(prediction: Prediction, ranks: int, capacity: Capacity) -> bool:
    """Whether every GPU holds its rank, and the nodes' memory holds all ranks' shares."""
    if capacity.device is not None and prediction.device_bytes > capacity.device:
        return False
    if not capacity.nodes:
        return True
    on_node = min(ranks, max(slots for slots, _ in capacity.nodes))
    share = prediction.host_bytes / on_node
    return sum(min(slots, math.floor(memory / share)) for slots, memory in capacity.nodes) >= ranks


def nearest(shape: Shape, align: Align, dtype: str, capacity: Capacity) -> str:
    """The first settings that fit, in the order of `neighbours`, as overrides to set."""
    for candidate in neighbours(align):
        ranks = candidate.workers.limits[0]
        enough = capacity if ranks <= sum(slots for slots, _ in capacity.nodes) else Capacity(capacity.device, ())
        if fits(predicted(shape, candidate, dtype, ranks, enough), ranks, enough):
            return f"set {' '.join(changes(align, candidate))}"
    return "take a smaller model, or GPUs with more memory"


def neighbours(align: Align) -> Iterator[Align]:
    """Settings that need less memory, nearest first.

    Tried in turn, each for every choice of those before it: checkpointing on, a higher ZeRO stage, offloading, fewer
    tokens in a micro-batch (which leaves longer sequences out), more ranks.
    """
    tokens, count = [align.micro_batch_tokens], [align.workers.limits[0]]
    while tokens[-1] // 2 >= FEWEST_TOKENS:
        tokens.append(tokens[-1] // 2)
    while count[-1] * 2 <= MOST_RANKS:
        count.append(count[-1] * 2)
    offloads = OFFLOADS[OFFLOADS.index(align.offload) :]
    checkpointing = sorted({align.gradient_checkpointing, True})
    for ranks, micro_batch, offload, stage, recompute in product(
        count, tokens, offloads, range(align.zero_stage, 4), checkpointing
    ):
        if legal(stage, offload):
            workers = align.workers
            if ranks != workers.limits[0]:
                workers = workers.model_copy(update={"num_workers": ranks})
            yield align.model_copy(
                update={
                    "gradient_checkpointing": recompute,
                    "zero_stage": stage,
                    "offload": offload,
                    "micro_batch_tokens": micro_batch,
                    "workers": workers,
                }
            )


def legal(stage: int, offload: str) -> bool:
    """Whether DeepSpeed can offload so much at that stage."""
    return stage >= {"none": 0, "optimizer": 1, "parameters": 3}[offload]


def changes(align: Align, candidate: Align) -> list[str]:
    """The overrides that lead from one to the other."""
    names = ("gradient_checkpointing", "zero_stage", "offload", "micro_batch_tokens")
    pairs = [(name, getattr(align, name), getattr(candidate, name)) for name in names]
    pairs.append(("workers.num_workers", align.workers.num_workers, candidate.workers.num_workers))
    return [f"align.{name}={str(new).lower()}" for name, old, new in pairs if old != new]


def _largest(parts: dict[str, int]) -> str:
    """The three largest parts, for a message."""
    ordered = sorted(parts.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{name} {size / GB:.1f}" for name, size in ordered)
