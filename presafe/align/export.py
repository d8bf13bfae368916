"""Export to `model/`: the adapter, the safety head, the card, and on request the merged weights."""

import tempfile
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn

from presafe import storage
from presafe.align.model import PreSafeModel
from presafe.engines.card import Card
from presafe.engines.exported import load_exported
from presafe.engines.head import save_head


def export_model(engine: Any, module: PreSafeModel, card: Card, folder: str, *, merge: bool) -> None:
    """Every rank calls it, since ZeRO-3 gathers parameters on all; rank 0 writes."""
    weights = _trainable_on_rank_0(module)
    engine.destroy()
    if dist.get_rank() == 0:
        with tempfile.TemporaryDirectory(prefix="presafe-export-") as local:
            assert isinstance(module.lm, PeftModel)
            _write(local, module.lm, weights, card)
            storage.remove(folder)
            storage.upload(local, folder)
        if merge:
            _write_merged(folder)
    dist.barrier()


def _trainable_on_rank_0(module: nn.Module) -> dict[str, torch.Tensor]:
    """Trainable parameters by name, gathered one at a time; empty on the other ranks."""
    weights = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            with deepspeed.zero.GatheredParameters([parameter], modifier_rank=None):
                if dist.get_rank() == 0:
                    weights[name] = parameter.detach().clone().cpu()
    return weights


def _write(local: str, lm: PeftModel, weights: dict[str, torch.Tensor], card: Card) -> None:
    lora = {name.removeprefix("lm."): tensor for name, tensor in weights.items() if name.startswith("lm.")}
    adapter = get_peft_model_state_dict(lm, state_dict=lora)
    config = lm.peft_config["default"]
    config.base_model_name_or_path, config.inference_mode = card.base_model, True
    config.save_pretrained(f"{local}/adapter")
    save_file({name: t.contiguous() for name, t in adapter.items()}, f"{local}/adapter/adapter_model.safetensors")
    if card.head.kind != "readout":
        head = {name: weights[f"head.linear.{name}"] for name in ("weight", "bias")}
        save_head(head, f"{local}/safety_head.safetensors")
    storage.write_text(f"{local}/presafe.json", card.model_dump_json(indent=2) + "\n")


def _write_merged(folder: str) -> None:
    loaded = load_exported(folder)
    with tempfile.TemporaryDirectory(prefix="presafe-merged-") as local:
        loaded.model.save_pretrained(local)
        loaded.tokenizer.save_pretrained(local)
        storage.upload(local, storage.join(folder, "merged"))
