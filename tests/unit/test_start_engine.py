"""From settings to an engine, without vLLM."""

import sys

import pytest

from presafe import storage
from presafe.config import VllmSettings
from presafe.engines.card import Card
from presafe.engines.start import ModelSpec, start_engine, vllm_model
from presafe.errors import UserError


def test_a_worker_without_vllm_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    with pytest.raises(UserError, match=r"presafe\[vllm\]"):
        start_engine(
            VllmSettings(kind="vllm"), ModelSpec("m", "float32"), on_gpu=False, num_workers=1, max_new_tokens=8
        )


def test_vllm_loads_an_exported_model_as_its_base_and_adapter(tmp_path):
    card = Card(
        base_model="organisation/base",
        dtype="bfloat16",
        think_format={},
        threshold=0.5,
        max_over_refusal=0.01,
        refusal="no",
        config_hash="h",
        metrics={},
    )
    storage.write_json(f"{tmp_path}/presafe.json", card.model_dump(mode="json"))
    found = vllm_model(ModelSpec("ignored", "float32", exported=str(tmp_path)))
    assert (found.folder, found.base, found.dtype) == ("organisation/base", "organisation/base", "bfloat16")
    assert found.adapter == f"{tmp_path}/adapter"


def test_vllm_loads_all_weights_as_a_model_of_its_own(tmp_path):
    card = Card(
        base_model="organisation/base",
        dtype="bfloat16",
        weights="full",
        think_format={},
        threshold=0.5,
        max_over_refusal=0.01,
        refusal="no",
        config_hash="h",
        metrics={},
    )
    storage.write_json(f"{tmp_path}/presafe.json", card.model_dump(mode="json"))
    found = vllm_model(ModelSpec("ignored", "float32", exported=str(tmp_path)))
    assert (found.folder, found.base, found.adapter) == (f"{tmp_path}/full", f"{tmp_path}/full", None)
