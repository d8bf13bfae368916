"""Where a model can be aligned on this machine, for `presafe init`: the preflight's first settings that fit."""

from typing import Any

import torch

from presafe.align.preflight.fit import fits, neighbours, predicted, refuse_misfit
from presafe.align.preflight.shape import read_shape
from presafe.cluster.capacity import GB, Capacity
from presafe.config import Align, Group, Lora
from presafe.engines.exported import load_tokenizer
from presafe.runtime import resolved
from presafe.thinking import think_format


def placed(model: str) -> tuple[str, dict[str, Any]]:
    """The dtype of the weights, and what the section `align` has to say, on this machine's GPUs or else its CPU.

    Raises UserError where the model has no think format that can be proven, or nothing fits on so many GPUs.
    """
    folder = resolved(model)
    think_format(load_tokenizer(folder))
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    memory = float(torch.cuda.get_device_properties(0).total_memory) if gpus else None
    return settings_for(folder, gpus, memory)


def settings_for(folder: str, gpus: int, memory: float | None) -> tuple[str, dict[str, Any]]:
    """The same for so many GPUs of `memory` bytes each; None of them is the CPU."""
    if memory is None:
        return "float32", {"zero_stage": 0}
    shape, dtype = read_shape(folder, Lora()), "bfloat16"
    workers = {"num_workers": gpus, "num_gpus": 1, "gpu_memory_gb": round(memory / GB, 1)}
    align = Align(workers=Group.model_validate(workers), zero_stage=0)
    capacity = Capacity(memory, ())
    for candidate in neighbours(align):
        if candidate.workers == align.workers and fits(
            predicted(shape, candidate, dtype, gpus, capacity), gpus, capacity
        ):
            names = ("zero_stage", "offload", "micro_batch_tokens")
            return dtype, {"workers": workers} | {name: getattr(candidate, name) for name in names}
    refuse_misfit(shape, align, dtype, capacity)
    raise AssertionError("the settings that do not fit were not refused")
