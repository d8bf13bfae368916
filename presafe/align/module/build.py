"""The module that is trained and its optimizer, from the base's folder and the settings."""

from typing import Any

import torch
from deepspeed.ops.adam import DeepSpeedCPUAdam
from peft import LoraConfig, TaskType, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, set_seed

from presafe.align.module.kernels import attention, use_liger, use_tf32
from presafe.align.module.model import HeadSpec, PreSafeModel
from presafe.align.objectives import objective
from presafe.config import Align, LinearHead, Lora, ReadoutHead
from presafe.decision.head import SafetyHead
from presafe.engines.model_files import local_weights


def head_spec(align: Align, decision_token: int) -> HeadSpec:
    where = objective(align).head
    if where == "none":
        return HeadSpec("none", decision_token)
    if isinstance(align.head, ReadoutHead):
        return HeadSpec("readout", decision_token, anchored=align.head.kl_weight > 0 and align.signal_batch_size > 0)
    return HeadSpec("linear" if where == "pre_cot" else "mean", decision_token, layer=align.head.layer)


def build_module(base: str, dtype: str, align: Align, spec: HeadSpec, seed: int) -> PreSafeModel:
    """`equip` of the base in the folder `base`."""
    lm: Any = AutoModelForCausalLM.from_pretrained(
        local_weights(base), dtype=getattr(torch, dtype), attn_implementation=attention(align, dtype)
    )
    return equip(lm, align, spec, seed)


def equip(lm: Any, align: Align, spec: HeadSpec, seed: int) -> PreSafeModel:
    """The model with LoRA adapters or all its weights to train, and the head.

    Adapters and head are float32 beside a bfloat16 base. In full fine-tuning the head has the model's dtype, since
    under ZeRO-3 all that is trained must share one; DeepSpeed keeps a float32 copy of both.
    """
    use_liger(lm, align)
    if align.lora is not None:
        use_tf32(lm)
    set_seed(seed)  # the same adapters and head on every rank
    if align.gradient_checkpointing:
        lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    head = SafetyHead(lm.config.hidden_size) if spec.probes else None
    if align.lora is not None:
        lm = get_peft_model(lm, _lora(align.lora))
    elif head is not None:
        head = head.to(lm.dtype)
    return PreSafeModel(lm, spec, head).train()


def parameter_groups(module: PreSafeModel, align: Align) -> list[dict[str, Any]]:
    """What is trained: the head apart where it has a learning rate of its own, and what has no weight decay."""
    model = [p for p in module.lm.parameters() if p.requires_grad]
    head = list(module.head.parameters()) if module.head is not None else []
    own = align.head.learning_rate if isinstance(align.head, LinearHead) else None
    if not head or own is None:
        return _by_decay({"params": model + head}, align)
    return _by_decay({"params": model}, align) + _by_decay({"params": head, "lr": own}, align)


def _by_decay(group: dict[str, Any], align: Align) -> list[dict[str, Any]]:
    """Matrices, then biases and norms without weight decay; ZeRO-3's partitioned parameters keep their shape aside."""
    if not align.weight_decay:
        return [group]
    matrices = [p for p in group["params"] if _is_matrix(p)]
    others = [p for p in group["params"] if not _is_matrix(p)]
    groups = [{**group, "params": matrices}, {**group, "params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _is_matrix(parameter: nn.Parameter) -> bool:
    return len(getattr(parameter, "ds_shape", parameter.shape)) > 1


def build_optimizer(module: PreSafeModel, align: Align) -> torch.optim.Optimizer:
    """AdamW; on the host where its states are offloaded."""
    groups = parameter_groups(module, align)
    settings: dict[str, Any] = {"lr": align.learning_rate, "betas": align.betas, "weight_decay": align.weight_decay}
    if align.offload == "none":
        return torch.optim.AdamW(groups, **settings)
    optimizer: torch.optim.Optimizer = DeepSpeedCPUAdam(groups, **settings)
    return optimizer


def trained(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def _lora(lora: Lora) -> LoraConfig:
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type=TaskType.CAUSAL_LM,
    )
