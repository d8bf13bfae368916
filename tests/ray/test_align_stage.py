"""Stage `align` under ZeRO-3: what it exports is what it trained."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from presafe import storage
from presafe.align import run_align
from presafe.config import Config
from presafe.decision.threshold import calibrate
from presafe.engines.exported import load_base, load_exported
from presafe.errors import UserError
from presafe.records import Example
from run_directory import config, finish_earlier_stages, save_model

SETTINGS = {"zero_stage": 3, "steps": 6, "checkpoint_every": 3, "merge": True, "merge_gate": True}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, local_ray) -> Config:  # noqa: ARG001
    root = tmp_path_factory.mktemp("align")
    save_model(root)
    settings = config(root, **SETTINGS)
    finish_earlier_stages(settings)
    run_align(settings)
    return settings


def test_the_exported_head_and_adapter_give_the_calibrated_threshold(finished):
    """Offline, on the reloaded model: the threshold that the training workers calibrated under ZeRO-3."""
    loaded = load_exported(finished.run_directory.folder("model"))
    assert loaded.head is not None
    assert loaded.card is not None
    examples = storage.read_rows(f"{finished.run_directory.folder('align')}/validation.parquet", Example)
    benign = [example.prompt for example in examples if example.path == "think"]
    assert len(benign) >= 8
    assert loaded.reader is not None
    probabilities = loaded.reader.probabilities(loaded.model, benign)
    assert calibrate(probabilities, loaded.card.max_over_refusal) == pytest.approx(loaded.card.threshold, abs=1e-5)
    assert len({round(p, 6) for p in probabilities}) > 1
    counted = loaded.card.calibration
    assert counted is not None
    assert (counted.prompts, counted.refused) == (len(benign), 0)  # of so few, 1 % is none
    assert counted.over_refusal_bound == pytest.approx(1 - 0.05 ** (1 / len(benign)))


def test_the_export_is_complete_and_its_weights_were_trained(finished):
    folder = Path(finished.run_directory.folder("model"))
    assert {"adapter", "merged", "safety_head.safetensors", "presafe.json"} <= set(storage.names(str(folder)))
    card = json.loads((folder / "presafe.json").read_text())
    assert card["think_format"]["empty_block"] == "<think>\n\n</think>\n\n"
    assert card["metrics"]["step"] == 6
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        aligned, merged, base = (
            loaded.model(input_ids=ids).logits
            for loaded in (
                load_exported(str(folder)),
                load_base(str(folder / "merged"), "float32"),
                load_base(card["base_model"], "float32"),
            )
        )
    assert torch.allclose(aligned, merged, atol=1e-5)
    assert (aligned - base).abs().max() > 1e-3


def test_a_finished_stage_is_skipped_and_another_config_refused(finished):
    run_align(finished)
    changed = config(Path(finished.run.storage), **{**SETTINGS, "steps": 7})
    with pytest.raises(UserError, match=r"align\.steps is 6 there and 7 here"):
        run_align(changed)


def test_an_export_option_costs_no_training(finished):
    """Behind the tests of `finished`, whose export it replaces."""
    run, root = Path(finished.run_directory.root), Path(finished.run.storage)
    kept = ("align/metrics.jsonl", "model/adapter/adapter_model.safetensors", "model/safety_head.safetensors")
    before = {name: (run / name).read_bytes() for name in kept}
    changed = config(root, **{**SETTINGS, "merge": False})
    with pytest.raises(UserError, match=r"align\.export .*align\.merge is True there and False here"):
        run_align(changed)
    assert (run / "model/merged").exists()
    run_align(changed, redo=["export"])
    assert {name: (run / name).read_bytes() for name in kept} == before
    assert not (run / "model/merged").exists()
    assert (run / "model/merged-gate").exists()
    others = config(root, **{**SETTINGS, "merge": True, "zero_stage": 2})
    with pytest.raises(UserError, match=r"checkpoints of align\.zero_stage=3 and offload=none"):
        run_align(others, redo=["export"])
    assert (run / "model/merged-gate").exists(), "what cannot be made anew is kept"


@pytest.mark.usefixtures("local_ray")
def test_the_defaults_of_a_cluster_train_and_export(tmp_path):
    """bfloat16, ZeRO-3, gradient checkpointing, float32 adapters and head: what a 14B model gets."""
    save_model(tmp_path)
    settings = config(tmp_path, zero_stage=3, steps=12, checkpoint_every=12, gradient_checkpointing=True)
    settings = settings.model_copy(update={"model": settings.model.model_copy(update={"dtype": "bfloat16"})})
    finish_earlier_stages(settings)
    run_align(settings)
    rows = [json.loads(line) for line in (tmp_path / "run/align/metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 12
    assert rows[-1]["lm_loss"] < rows[0]["lm_loss"] - 0.1
    loaded = load_exported(settings.run_directory.folder("model"))
    assert loaded.model.dtype == torch.bfloat16
    adapter = load_file(tmp_path / "run/model/adapter/adapter_model.safetensors")
    assert {tensor.dtype for tensor in adapter.values()} == {torch.float32}
    assert any((tensor != 0).any() for name, tensor in adapter.items() if "lora_B" in name)
