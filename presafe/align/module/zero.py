"""DeepSpeed: the engine's configuration and its start."""

from collections.abc import Callable, Iterable
from typing import Any

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator
from torch import nn
from transformers.integrations import HfDeepSpeedConfig

from presafe.config import Align

REDUCE_BUCKET = 500_000_000
"""Most elements of `reduce_bucket_size`: DeepSpeed's default, which it allocates whole however little is trained."""


def zero_config(align: Align, dtype: str) -> dict[str, Any]:
    """DeepSpeed's configuration of a stage.

    Gradient accumulation is ours: `engine.step()` is the boundary, so that steps may differ in micro-batches.
    """
    zero: dict[str, Any] = {"stage": align.zero_stage}
    pinned = torch.cuda.is_available()
    if align.zero_stage >= 1:
        zero |= {"contiguous_gradients": True, "overlap_comm": False}
    if align.zero_stage == 3:
        zero |= {"stage3_gather_16bit_weights_on_model_save": False}
    if align.offload != "none":
        zero |= {"offload_optimizer": {"device": "cpu", "pin_memory": pinned}}
    if align.offload == "parameters":
        zero |= {"offload_param": {"device": "cpu", "pin_memory": pinned}}
    # DeepSpeed's bf16 mode casts every weight, float32 adapters and head too, except under ZeRO-3's sharded loading.
    # Without it the frozen base stays bfloat16 as it was loaded, and what is trained float32.
    bf16 = dtype == "bfloat16" and (align.lora is None or align.zero_stage == 3)
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": align.max_grad_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": bf16},
        "steps_per_print": 10**9,
    }


def sharded_loading(config: dict[str, Any]) -> HfDeepSpeedConfig | None:
    """Under ZeRO-3, the object that from_pretrained looks up so that no rank ever builds the whole model.

    It works as long as it is referenced; None for the other stages.
    """
    if config["zero_optimization"]["stage"] < 3:
        return None
    _use_gloo_on_cpu()
    return HfDeepSpeedConfig(config)


def start_engine(
    module: nn.Module,
    config: dict[str, Any],
    optimizer: torch.optim.Optimizer,
    learning_rate_factor: Callable[[int], float] | None = None,
) -> Any:
    """A DeepSpeed engine over an initialised process group."""
    _use_gloo_on_cpu()
    parameters = [p for p in module.parameters() if p.requires_grad]
    bucket = min(REDUCE_BUCKET, elements(parameters))
    config = {**config, "zero_optimization": {**config["zero_optimization"], "reduce_bucket_size": bucket}}
    schedule = None
    if learning_rate_factor is not None:
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate_factor)
    if config["zero_optimization"]["stage"] == 0 and not config["bf16"]["enabled"]:
        config = _clip_in_optimizer(config, optimizer)
    engine, *_ = deepspeed.initialize(
        model=module,
        optimizer=optimizer,
        config=config,
        lr_scheduler=schedule,
        model_parameters=parameters,
    )
    return engine


def elements(parameters: Iterable[torch.Tensor]) -> int:
    """Number of elements; ZeRO-3's partitioned parameters count in full."""
    return sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in parameters)


def _clip_in_optimizer(config: dict[str, Any], optimizer: Any) -> dict[str, Any]:
    """Clip by a hook, under a configuration that leaves it alone; the norm is kept where the engine looks for it.

    With this plain optimizer DeepSpeed clips too, but throws the norm away: `engine.get_global_grad_norm()` is None.
    """
    limit = config["gradient_clipping"]

    def clip(*_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        optimizer._global_grad_norm = torch.nn.utils.clip_grad_norm_(parameters, limit).item()

    optimizer.register_step_pre_hook(clip)
    return {**config, "gradient_clipping": 0.0}


def _use_gloo_on_cpu() -> None:
    """DeepSpeed's shared-memory all-reduce is compiled at first use and needs a compiler; gloo's needs neither.

    To ask which of its ops could be compiled takes seconds of compiling, so it is told: none.
    """
    if get_accelerator().device_name() == "cpu":
        deepspeed.ops.__compatible_ops__ = {}
