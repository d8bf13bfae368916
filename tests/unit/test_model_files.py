"""Models and tokenizers that cannot be used are told in one sentence, before anything is loaded."""

import json
import shutil
from pathlib import Path

import pytest

from family_tokenizers import r1_llama
from presafe.config import VllmSettings
from presafe.engines.exported import check_model, load_tokenizer
from presafe.engines.start import check_engine
from presafe.engines.tokenizer_check import check_ids, check_round_trip
from presafe.errors import UserError
from presafe.thinking import think_format
from run_directory import save_model
from tiny_tokenizer import QWEN3, tiny_tokenizer

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("model")
    save_model(root)
    return root / "base"


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | values))


def test_a_whole_model_passes(folder):
    assert check_model(str(folder)).open_tag == "<think>"


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_git_lfs_pointer_is_told(folder, name):
    (folder / name).write_text(POINTER)
    with pytest.raises(UserError, match=rf"found a Git LFS pointer in place of .*{name}"):
        check_model(str(folder))


@pytest.mark.parametrize("left", [0, 4, 2000, -1])
def test_cut_weights_are_told(folder, left):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:left])
    with pytest.raises(UserError, match=r"found (a header cut off|\d+ bytes where its header says)"):
        check_model(str(folder))


def test_weights_of_another_kind_under_the_name_are_told(folder):
    (folder / "model.safetensors").write_bytes((20).to_bytes(8, "little") + b"<!DOCTYPE html> 404 not found")
    with pytest.raises(UserError, match="unreadable header"):
        check_model(str(folder))


def test_a_missing_shard_is_told_with_and_without_an_index(folder):
    weights = folder / "model.safetensors"
    weights.rename(folder / "model-00001-of-00002.safetensors")
    with pytest.raises(UserError, match=r"1 of its shards missing, model-00002-of-00002\.safetensors"):
        check_model(str(folder))
    edit(folder / "model.safetensors.index.json", weight_map={"a": "other.safetensors"})
    with pytest.raises(UserError, match=r"2 of its shards missing"):
        check_model(str(folder))


def test_a_broken_json_file_is_told(folder):
    (folder / "tokenizer.json").write_text('{"version": ')
    with pytest.raises(UserError, match=r"tokenizer\.json, which is not JSON"):
        check_model(str(folder))


@pytest.mark.parametrize(
    "options",
    [{"modules_to_save": ["lm_head"]}, {"use_dora": True}, {"r": 1024}, {"bias": "all"}, {"peft_type": "IA3"}],
)
def test_an_adapter_that_vllm_refuses_is_told(folder, tmp_path, options):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    edit(adapter / "adapter_config.json", base_model_name_or_path=str(folder), r=8)
    check_engine(VllmSettings(kind="vllm"), str(adapter))
    edit(adapter / "adapter_config.json", **options)
    with pytest.raises(UserError, match="found an adapter"):
        check_engine(VllmSettings(kind="vllm"), str(adapter))


def test_named_templates_need_a_default(folder):
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    edit(folder / "tokenizer_config.json", chat_template=[{"name": "rag", "template": QWEN3}])
    with pytest.raises(UserError, match="without a default"):
        check_model(str(folder))


@pytest.mark.parametrize("label", ["LlamaTokenizerFast", "LlamaTokenizer", "PreTrainedTokenizerFast"])
def test_a_byte_level_tokenizer_keeps_its_spaces_whatever_its_label(tmp_path, label):
    r1_llama().save_pretrained(tmp_path)
    edit(tmp_path / "tokenizer_config.json", tokenizer_class=label)
    edit(tmp_path / "config.json", model_type="llama")
    tokenizer = load_tokenizer(str(tmp_path))
    text = "add two words\nand a new line"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_a_tokenizer_that_loses_spaces_is_told():
    tokenizer = r1_llama()
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": ""}
    tokenizer.backend_tokenizer.normalizer = None
    broken = type(tokenizer.backend_tokenizer).from_str(json.dumps(state))
    with pytest.raises(UserError, match="reads ' two words"):
        check_round_trip(type(tokenizer)(tokenizer_object=broken), "somewhere")


def test_ids_beyond_the_embeddings_are_told():
    think = think_format(tiny_tokenizer(QWEN3))
    check_ids(think, len(think.tokenizer), "somewhere")
    with pytest.raises(UserError, match=r"token ids up to \d+ for a model of"):
        check_ids(think, len(think.tokenizer) - 1, "somewhere")


def test_a_prompt_that_begins_twice_is_told():
    tokenizer = r1_llama()
    tokenizer.pad_token = tokenizer.eos_token
    check_ids(think_format(tokenizer), None, "somewhere")
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    with pytest.raises(UserError, match="begins 2 times"):
        check_ids(think_format(tokenizer), None, "somewhere")
