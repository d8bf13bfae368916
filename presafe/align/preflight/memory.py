"""Predicts what a rank of the alignment needs, before anything starts: pure functions of shape, settings and ranks.

The terms follow DeepSpeed 0.19's stage_1_and_2.py and stage3.py as zero.py configures them: LoRA adapters are float32
whatever the base is, and full fine-tuning trains weights of the model's own dtype (docs/preflight.md has a table).
"""

from dataclasses import dataclass

from presafe.align.module.cross_entropy import BLOCK
from presafe.align.module.kernels import repeats_heads
from presafe.align.module.zero import REDUCE_BUCKET
from presafe.align.preflight.activations import FULL, activations
from presafe.align.preflight.shape import Shape
from presafe.config import Align

BYTES = {"float32": 4, "bfloat16": 2}
ADAM = 2 * FULL
"""Bytes a trained parameter of Adam's two moments."""
LIVE_PARAMETERS = 1_050_000_000
"""Gathered parameters that ZeRO-3 keeps by default: `stage3_max_live_parameters` and one prefetch."""
SUB_GROUP = 1_000_000_000
"""Parameters that ZeRO-3 updates at a time (`sub_group_size`)."""
GPU_RESERVE = 2_000_000_000
"""CUDA context, NCCL's buffers and the allocator's fragmentation. An assumption: nothing of it was measured."""
GPU_PROCESS, CPU_PROCESS = 4_000_000_000, 800_000_000
"""Host memory of a rank's process with its libraries, on a GPU (an assumption) and on a CPU (0.56e9 measured, torch,
DeepSpeed and Ray imported)."""
PINNED = 1.5
"""Factor on offloaded states: page-locked blocks are rounded up; DeepSpeed's own estimate has the same one."""


@dataclass(frozen=True)
class Ranks:
    """`count` ranks, of which one node holds at most `per_node`, on GPUs or on CPUs."""

    count: int
    per_node: int
    on_gpu: bool = True


@dataclass(frozen=True)
class Prediction:
    """Bytes. `device`: peak of one rank, by part; of parts that never live together the smaller is counted as 0, or
    as what it exceeds the other by. `host`: peak of one node's memory, by part. On CPUs `host` holds the ranks too.
    """

    device: dict[str, int]
    host: dict[str, int]
    checkpoint: int
    export: int

    @property
    def device_bytes(self) -> int:
        return sum(self.device.values())

    @property
    def host_bytes(self) -> int:
        return sum(self.host.values())


@dataclass(frozen=True)
class States:
    """Bytes of the model's states: on the device in each phase, and on a rank's share of the host."""

    weights: int
    gradients: int
    optimizer: int
    update: int
    """What an optimizer step needs more: gradients in float32, and Adam's temporary."""
    offloaded: int


def predict(shape: Shape, align: Align, dtype: str, ranks: Ranks) -> Prediction:
    """Memory of the alignment in `dtype` on `ranks`, and the bytes of a checkpoint and of the export."""
    size = BYTES[dtype]
    states = model_states(shape, align, size, ranks.count)
    pool = -(-align.signal_batch_size // ranks.count)
    block, repeated = BLOCK["cuda" if ranks.on_gpu else "cpu"], ranks.on_gpu and repeats_heads(align, dtype)
    work = activations(shape, align, size, align.micro_batch_tokens, pool, block, repeated=repeated)
    buckets = _buckets(shape, align, size, ranks.count)
    backward = work.peak + buckets
    device = {
        "weights": states.weights,
        "gradients": states.gradients,
        "optimizer": states.optimizer,
        "gathered": _gathered(shape, align, size, ranks.count),
        "buckets": buckets,
        "activations": work.saved + work.layer,
        "logits": max(0, work.logits - work.layer),
        "update": max(0, states.update - backward),
        "reserve": GPU_RESERVE if ranks.on_gpu else 0,
    }
    return Prediction(device, _host(shape, align, size, ranks, device, states), *_files(shape, align, size))


def model_states(shape: Shape, align: Align, dtype_bytes: int, world: int) -> States:
    """Weights, gradients and optimizer of one rank of `world`, as ZeRO's stage and the offload place them."""
    stage, trained = align.zero_stage, shape.trainable(align.lora)
    frozen = 0 if align.lora is None else shape.parameters * dtype_bytes
    size = dtype_bytes if align.lora is None else FULL
    part = trained / world
    master = FULL * part if stage in (1, 2) or (stage == 3 and size < FULL) else 0
    moments = ADAM * (trained if stage == 0 else part)
    weights = (frozen + size * trained) / (world if stage == 3 else 1)
    # Stages 1 and 2 hold what earlier micro-batches gave beside what the present one gives.
    gradients = size * {0: trained, 1: trained + part, 2: 2 * part, 3: part}[stage]
    update = _update(stage, trained, part)
    offloaded = 0.0
    if align.offload != "none":
        # Master weights, moments and gradients in float32, and gradients and weights in the trained dtype on their way.
        offloaded = (FULL + ADAM + FULL) * part + size * part * (1 if stage == 3 else 2)
        gradients, update, moments, master = (size * trained if stage == 1 else 0), 0, 0, 0
    if align.offload == "parameters":
        offloaded, weights = offloaded + weights, 0
    return States(int(weights), int(gradients), int(moments + master), int(update), int(offloaded))


def _update(stage: int, trained: int, part: float) -> float:
    """Gradients in float32 (stage 0 has them already), and the square roots of Adam's second moments."""
    if stage == 0:
        return FULL * trained
    return 2 * FULL * (min(part, SUB_GROUP) if stage == 3 else part)


def _gathered(shape: Shape, align: Align, dtype_bytes: int, world: int) -> int:
    """Weights that ZeRO-3 has whole at a time; a single rank that holds its weights gathers nothing."""
    if align.zero_stage < 3 or (world == 1 and align.offload != "parameters"):
        return 0
    return dtype_bytes * min(shape.parameters, max(LIVE_PARAMETERS, shape.largest_module))


def _buckets(shape: Shape, align: Align, dtype_bytes: int, world: int) -> int:
    """Buffers in which gradients are reduced: a bucket, and its copy that the ranks exchange."""
    trained = shape.trainable(align.lora)
    size = dtype_bytes if align.lora is None or align.zero_stage == 3 else FULL
    bucket = size * min(trained, REDUCE_BUCKET)
    if align.zero_stage == 0:
        return bucket if world > 1 else 0
    return 2 * bucket


def _host(
    shape: Shape, align: Align, dtype_bytes: int, ranks: Ranks, device: dict[str, int], states: States
) -> dict[str, int]:
    on_node = min(ranks.count, ranks.per_node)
    if not ranks.on_gpu:
        parts = {**device, "offloaded": states.offloaded, "processes": CPU_PROCESS}
        return {name: on_node * part for name, part in parts.items()}
    # Each rank builds the model in host memory before it moves, under ZeRO-3 only the first one reads it.
    loading = dtype_bytes * shape.parameters * (1 if align.zero_stage == 3 else on_node)
    offloaded_bytes = int(PINNED * on_node * states.offloaded)
    return {
        "processes": on_node * GPU_PROCESS,
        "offloaded": offloaded_bytes,
        "loading": max(0, loading - offloaded_bytes),
    }


def _files(shape: Shape, align: Align, dtype_bytes: int) -> tuple[int, int]:
    """Bytes of one checkpoint over all ranks, frozen weights left out, and of the exported model."""
    trained = shape.trainable(align.lora)
    size = dtype_bytes if align.lora is None else FULL
    master = 0 if align.zero_stage == 0 else FULL
    module = 0 if align.zero_stage == 3 else size
    whole = dtype_bytes * shape.parameters
    export = whole if align.lora is None else FULL * trained + (whole if align.merge else 0)
    return (ADAM + master + module) * trained, export + (whole if align.merge_gate else 0)
