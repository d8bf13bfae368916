"""A PEFT adapter's folder is a model: its base with the adapter merged in."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model

from presafe.config import Decoding, TransformersSettings
from presafe.engines.engine import Query
from presafe.engines.exported import check_model, load_base, stop_ids
from presafe.engines.transformers_engine import TransformersEngine
from presafe.errors import UserError
from run_directory import save_model

QUERIES = [Query(text, cot) for text in ("add two", "lamp") for cot in ("on", "off")]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """`base`, `adapter` of it, and `merged`, which peft made of both."""
    root = tmp_path_factory.mktemp("adapters")
    save_model(root)
    base = load_base(str(root / "base"), "float32")
    torch.manual_seed(0)
    lora = LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    model = get_peft_model(base.model, lora)
    model.save_pretrained(root / "adapter")
    model.merge_and_unload().save_pretrained(root / "merged")
    base.tokenizer.save_pretrained(root / "merged")
    return root


def completions(folder):
    engine = TransformersEngine(load_base(str(folder), "float32"), TransformersSettings())
    return engine.generate(QUERIES, Decoding(temperature=0, max_new_tokens=12), 0)


def test_an_adapter_completes_like_the_merged_model_and_not_like_its_base(root):
    assert completions(root / "adapter") == completions(root / "merged") != completions(root / "base")


def test_an_adapter_passes_the_check_and_stops_where_its_base_does(root):
    think = check_model(str(root / "adapter"))
    assert think.empty_block == check_model(str(root / "base")).empty_block
    assert stop_ids(str(root / "adapter")) == load_base(str(root / "adapter"), "float32").stop_ids


def test_stop_ids_without_weights_are_those_of_the_loaded_model(root, tmp_path):
    own, without = tmp_path / "own", tmp_path / "without"
    for folder in (own, without):
        shutil.copytree(root / "base", folder)
    generation = json.loads((own / "generation_config.json").read_text())
    (own / "generation_config.json").write_text(json.dumps({**generation, "eos_token_id": [5, 6]}))
    (without / "generation_config.json").unlink()
    for folder in (own, without):
        assert stop_ids(str(folder)) == load_base(str(folder), "float32").stop_ids
    assert stop_ids(str(own)) > {5, 6}


def test_an_adapters_own_tokenizer_comes_first(root, tmp_path):
    shutil.copytree(root / "adapter", tmp_path / "adapter")
    tokenizer = load_base(str(root / "base"), "float32").tokenizer
    tokenizer.chat_template = tokenizer.chat_template.replace("assistant", "helper")
    tokenizer.save_pretrained(tmp_path / "adapter")
    assert "helper" in check_model(str(tmp_path / "adapter")).tokenizer.chat_template


@pytest.mark.parametrize("missing", ["base", "weights", "name"])
def test_a_broken_adapter_is_one_sentence(root, tmp_path, missing):
    folder = tmp_path / "adapter"
    shutil.copytree(root / "adapter", folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    if missing == "weights":
        (folder / "adapter_model.safetensors").unlink()
    else:
        config["base_model_name_or_path"] = "/nowhere" if missing == "base" else None
        (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="needed"):
        check_model(str(folder))
