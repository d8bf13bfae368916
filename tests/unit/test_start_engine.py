"""From settings to an engine, without vLLM."""

import sys

import pytest

from presafe import storage
from presafe.config import VllmSettings
from presafe.engines.card import Card
from presafe.engines.start import ModelSpec, start_engine, vllm_model
from presafe.engines.vllm_model import VllmModel
from presafe.errors import UserError


def test_a_worker_without_vllm_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"presafe\[vllm\]"):
        start_engine(
            VllmSettings(kind="vllm"), ModelSpec("m", "float32"), on_gpu=False, num_workers=1, max_new_tokens=8
        )


def vllm_of(folder: str, weights: str) -> VllmModel:
    """What vLLM loads of an exported model in `folder`."""
    card = Card(
        base_model="organisation/base",
        dtype="bfloat16",
        weights=weights,
        think_format={},
        threshold=0.5,
        max_over_refusal=0.01,
        refusal="no",
        config_hash="h",
        metrics={},
    )
    storage.write_json(f"{folder}/presafe.json", card.model_dump(mode="json"))
    return vllm_model(ModelSpec("ignored", "float32", exported=folder))


def test_vllm_loads_an_exported_model_as_its_base_and_adapter(tmp_path):
    found = vllm_of(str(tmp_path), "adapter")
    assert (found.tokenizer, found.weights, found.dtype) == ("organisation/base", "organisation/base", "bfloat16")
    assert found.adapter == f"{tmp_path}/adapter"


def test_vllm_loads_all_weights_as_a_model_of_its_own(tmp_path):
    found = vllm_of(str(tmp_path), "full")
    assert (found.tokenizer, found.weights, found.adapter) == (f"{tmp_path}/full", f"{tmp_path}/full", None)
