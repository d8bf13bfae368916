"""Export to `model/`: adapter or all weights, head, card and model card; on request merged weights (docs/export.md)."""

from collections.abc import Sequence
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn

from presafe import storage
from presafe.align.export.model_card import model_card
from presafe.align.export.round_trip import Reference, check, check_row, reference
from presafe.align.module.collate import Collator
from presafe.align.module.model import PreSafeModel
from presafe.config import Align
from presafe.decision.gate_row import write_gate_row
from presafe.decision.head import save_head
from presafe.engines.card import MARKER, Card, RoundTrip, VocabularyRow, read_card, write_card
from presafe.engines.exported import (
    SHARD,
    LoadedModel,
    load_base,
    load_exported,
    load_probe,
    load_reader,
    load_tokenizer,
    save_loaded,
)
from presafe.records import Example

Weights = dict[str, torch.Tensor]


def export_model(
    engine: Any,
    module: PreSafeModel,
    card: Card,
    folder: str,
    validation: Sequence[Example],
    collator: Collator,
    align: Align,
) -> None:
    """Write `folder` anew, or raise and leave it as it was; where an upload breaks off, there is no export.

    Every rank calls it, since ZeRO-3 gathers parameters on all; rank 0 writes, and checks what it wrote at prompts of
    `validation` against the module in memory. The others are done once the weights are gathered: none waits at a
    barrier that would time out while a large model is merged.
    """
    seen = reference(engine, module, validation, collator)
    weights = _on_rank_0(module, everything=card.weights == "full")
    engine.destroy()
    if dist.get_rank() == 0:
        with storage.replacing_folder(folder, MARKER) as local:
            _write_trained(local, module.lm, weights, card)
            weights.clear()  # the model is about to be loaded again
            round_trip = _check_and_merge(local, card, seen, align)
            complete = card.model_copy(update={"round_trip": round_trip})
            write_card(local, complete)
            row = read_card(f"{local}/merged-gate").vocabulary_row if align.merge_gate else None
            storage.write_text(f"{local}/README.md", model_card(complete, row))


def _on_rank_0(module: nn.Module, *, everything: bool) -> Weights:
    """Parameters by name, gathered one at a time: those that were trained, or all. Empty on the other ranks."""
    weights = {}
    for name, parameter in module.named_parameters():
        if everything or parameter.requires_grad:
            with deepspeed.zero.GatheredParameters([parameter], modifier_rank=None):
                if dist.get_rank() == 0:
                    weights[name] = parameter.detach().to("cpu", copy=True)
    return weights


def _write_trained(local: str, lm: Any, weights: Weights, card: Card) -> None:
    own = {name.removeprefix("lm."): tensor for name, tensor in weights.items() if name.startswith("lm.")}
    if card.weights == "full":
        wanted = getattr(torch, card.dtype)
        whole = {name: tensor.to(wanted) for name, tensor in own.items()}
        lm.save_pretrained(f"{local}/full", state_dict=whole, max_shard_size=SHARD)
        load_tokenizer(card.base_model).save_pretrained(f"{local}/full")
    else:
        _write_adapter(f"{local}/adapter", lm, own, card.base_model)
    if card.head.kind != "readout":
        head = {name: weights[f"head.linear.{name}"] for name in ("weight", "bias")}
        save_head(head, f"{local}/safety_head.safetensors")
    write_card(local, card)


def _write_adapter(local: str, lm: PeftModel, weights: Weights, base: str) -> None:
    adapter = get_peft_model_state_dict(lm, state_dict=weights)
    config = lm.peft_config["default"]
    config.base_model_name_or_path, config.inference_mode = base, True
    config.save_pretrained(local)
    save_file({name: t.contiguous() for name, t in adapter.items()}, f"{local}/adapter_model.safetensors")


def _check_and_merge(local: str, card: Card, seen: Reference, align: Align) -> dict[str, RoundTrip]:
    """Load what was written, check it, and write the merged weights from it; one copy of the model at a time."""
    loaded = load_exported(local)
    assert loaded.reader is not None
    found: dict[str, RoundTrip] = {}
    found[card.weights] = check(loaded.model, loaded.reader, seen, f"{card.weights}/", card.dtype)
    if align.merge:
        save_loaded(loaded, f"{local}/merged")
        del loaded
        loaded = load_base(f"{local}/merged", card.dtype, think=card.think)
        reader = load_reader(local, loaded.format)
        found["merged"] = check(loaded.model, reader, seen, "merged/", card.dtype)
    if align.merge_gate:
        row = _write_merged_gate(f"{local}/merged-gate", loaded, local, card)
        del loaded
        loaded = load_base(f"{local}/merged-gate", card.dtype, think=card.think)
        reader = load_reader(local, loaded.format)
        trip, error = check_row(loaded.model, reader, row, seen, card.dtype)
        found["merged-gate"] = trip
        measured = row.model_copy(update={"probability_error": error})
        write_card(
            f"{local}/merged-gate", card.model_copy(update={"vocabulary_row": measured, "round_trip": {**found}})
        )
    return found


def _write_merged_gate(folder: str, loaded: LoadedModel, local: str, card: Card) -> VocabularyRow:
    """`loaded` becomes the model with the head's row."""
    head = load_probe(local, card.head)
    assert head is not None
    row = write_gate_row(loaded.model, loaded.tokenizer, head, card.threshold)
    save_loaded(loaded, folder)
    return row
