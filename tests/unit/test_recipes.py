"""Every recipe against its model's published shape, built on the meta device, and its family's think format."""

import re
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM

from family_tokenizers import qwen3, r1_llama, r1_qwen, skywork
from presafe.align.preflight.fit import refuse_misfit
from presafe.align.preflight.preview import plan_text
from presafe.align.preflight.shape import shape_of
from presafe.cluster.capacity import Capacity
from presafe.config import LinearHead, load_config
from presafe.engines.fit import ON_A_GPU, Footprint
from presafe.engines.fit import refuse_misfit as refuse_misfit_of_engine
from presafe.errors import UserError
from presafe.thinking import think_format
from published_shapes import SHAPES
from tiny_tokenizer import QWEN3 as ORGANISM
from tiny_tokenizer import R1 as ORGANISM_R1
from tiny_tokenizer import tiny_tokenizer

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(SHAPES)
SMALL = ["qwen3-0.6b", "qwen3-1.7b", "r1-qwen-1.5b"]
LARGE = sorted(set(RECIPES) - set(SMALL))
NODE_BYTES = 1e12
FAMILIES = {"r1-qwen": r1_qwen, "r1-llama": r1_llama, "qwen3": qwen3, "skywork": skywork}
PLACEMENTS = {"1x 80 GB": (1, 80e9), "1x H200": (1, 141e9), "8x H200": (8, 141e9)}


def path(recipe: str) -> str:
    return str(CONFIGS / f"{recipe}.yaml")


def overrides(recipe: str, placement: str) -> list[str]:
    """What the recipe's header says to append on another placement."""
    found = re.search(rf"^#   {placement}: (.+)$", Path(path(recipe)).read_text(), flags=re.MULTILINE)
    assert found, placement
    return found[1].split()


def test_every_shipped_recipe_has_a_published_shape():
    assert {file.stem for file in CONFIGS.glob("*.yaml")} == {
        *SHAPES,
        "demo",
        "demo-attacks",
        "demo-forms",
        "demo-gpu",
        "demo-real",
        "study",
        "study-real",
        "_real-model",
    }


def test_a_file_with_a_base_says_only_what_differs(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "{run: {seed: 3, name: below}, model: {path: a/b}, align: {steps: 5, lora: {r: 4, alpha: 8}},"
        " prompts: {sources: [{name: s, function: m:f}, {name: t, function: m:f}]}, suites: [{name: e, function: m:f}]}"
    )
    (tmp_path / "own.yaml").write_text(
        "{base: base.yaml, run: {name: own}, align: {lora: {r: 16}}, prompts: {sources: [{name: u, function: m:f}]}}"
    )
    config = load_config(str(tmp_path / "own.yaml"), ["align.steps=6"])
    assert (config.run.name, config.run.seed, config.align.steps) == ("own", 3, 6)
    assert config.align.lora is not None
    assert (config.align.lora.r, config.align.lora.alpha) == (16, 8)
    assert [source.name for source in config.prompts.sources] == ["u"]
    (tmp_path / "own.yaml").write_text("{base: base.yaml, align: {head: {kind: readout}}}")
    above = {"align": {"head": {"kind": "linear", "layer": 2}}}
    assert load_config(str(tmp_path / "own.yaml"), [], above).align.head == LinearHead(layer=2)
    assert load_config(str(tmp_path / "own.yaml"), [], {"align": {"head": {"kl_weight": 2}}}).align.head.kl_weight == 2
    (tmp_path / "own.yaml").write_text("base: none.yaml")
    with pytest.raises(UserError, match=r"no file .*none\.yaml"):
        load_config(str(tmp_path / "own.yaml"), [])


@pytest.mark.parametrize("recipe", RECIPES)
def test_shape_targets_and_head_fit_the_real_architecture(recipe):
    published, billions = SHAPES[recipe]
    align = load_config(path(recipe), []).align
    assert align.lora is not None
    shape = shape_of(published, align.lora)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(published)
        assert shape.parameters == sum(p.numel() for p in model.parameters())
        assert round(shape.parameters / 1e9, 2) == billions
        adapted = get_peft_model(model, LoraConfig(r=align.lora.r, target_modules=align.lora.target_modules))
    layers = [name for name, module in adapted.named_modules() if isinstance(module, LoraLayer)]
    assert len(layers) == shape.adapted == 7 * published.num_hidden_layers
    assert {name.split("layers.")[1].split(".")[0] for name in layers} == {
        str(index) for index in range(published.num_hidden_layers)
    }
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert trained == shape.trainable(align.lora) == align.lora.r * shape.adapted_widths

    assert isinstance(align.head, LinearHead)
    assert align.head.layer == -1
    assert model.base_model.norm.weight.shape == (published.hidden_size,)


def check_fit(recipe: str, gpus: int, memory: float, changed: list[str], too_small: float) -> None:
    """The recipe fits so many GPUs of `memory` bytes, as it says itself, and is refused on smaller ones."""
    config = load_config(path(recipe), changed)
    shape = shape_of(SHAPES[recipe][0], config.align.lora)
    assert config.align.workers.limits == (gpus, gpus)
    assert config.align.workers.gpu_memory_gb == memory / 1e9
    refuse_misfit(shape, config.align, config.model.dtype, Capacity(memory, ((gpus, NODE_BYTES),)))
    with pytest.raises(UserError, match=r"on each GPU .* set align\."):
        refuse_misfit(shape, config.align, config.model.dtype, Capacity(too_small, ((gpus, NODE_BYTES),)))


@pytest.mark.parametrize("recipe", LARGE)
def test_a_recipe_fits_its_placements_and_is_refused_on_a_small_gpu(recipe):
    check_fit(recipe, 8, 80e9, [], too_small=10e9)
    for name, (gpus, memory) in PLACEMENTS.items():
        check_fit(recipe, gpus, memory, overrides(recipe, name), too_small=15e9)


@pytest.mark.parametrize("recipe", SMALL)
def test_a_small_recipe_fits_one_gpu_of_24_gb_by_the_plan_too(recipe, tmp_path):
    check_fit(recipe, 1, 24e9, [], too_small=6e9)
    SHAPES[recipe][0].save_pretrained(tmp_path)
    plan = plan_text(load_config(path(recipe), [f"model.path={tmp_path}"]), None)
    assert "1 GPU(s) of 24 GB" in plan
    assert re.search(r"^>[ *] +0 none +\d+\.\d \(", plan, flags=re.MULTILINE), plan


@pytest.mark.parametrize("recipe", SMALL)
def test_the_longest_completions_of_a_small_recipe_fit_beside_its_weights(recipe):
    config, (shape, billions) = load_config(path(recipe), []).evaluate, SHAPES[recipe]
    head = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    token = 2 * 2 * shape.num_hidden_layers * shape.num_key_value_heads * head
    model, capacity = Footprint(2e9 * billions, token), Capacity(24e9, ())
    refuse_misfit_of_engine("evaluate.engine", config.engine, model, config.decoding.max_new_tokens, capacity, 1)
    longest = config.engine.max_prompt_tokens + config.decoding.max_new_tokens
    assert (24e9 - ON_A_GPU - 2e9 * billions) / token > 5 * longest, "or one thought would wait for the other"


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_demonstration_is_longer_than_a_micro_batch(recipe):
    config = load_config(path(recipe), [])
    longest = config.teacher.trace_engine.max_prompt_tokens + config.teacher.trace.max_new_tokens
    tags = 16
    assert longest + tags <= config.align.micro_batch_tokens <= SHAPES[recipe][0].max_position_embeddings


@pytest.mark.parametrize("family", FAMILIES)
def test_the_pre_cot_position_is_the_prompts_last_token(family):
    think = think_format(FAMILIES[family]())
    prompt = think.tokenizer.convert_ids_to_tokens(think.prompt_ids([{"role": "user", "content": "add 2"}]))
    text = think.tokenizer.decode(think.prompt_ids([{"role": "user", "content": "add 2"}]))
    if family == "qwen3":
        assert text == "<|im_start|>user\nadd 2<|im_end|>\n<|im_start|>assistant\n"
        assert not think.opened_by_prompt
        assert prompt[-1] == "Ċ"
    elif family == "skywork":
        assert text == "<｜begin▁of▁sentence｜><｜User｜>add 2<｜Assistant｜>"
        assert not think.opened_by_prompt
    else:
        assert text == "<｜begin▁of▁sentence｜><｜User｜>add 2<｜Assistant｜><think>\n"
        assert prompt[-3:] == ["<｜Assistant｜>", "<think>", "Ċ"]
        assert think.opened_by_prompt


@pytest.mark.parametrize(
    ("tokenizer", "prefix", "decision"),
    [
        (r1_qwen, [], "Ċ"),
        (r1_llama, [], "Ċ"),
        (qwen3, ["<think>"], "ĊĊ"),
        (skywork, ["<think>"], "ĊĊ"),
        (lambda: tiny_tokenizer(ORGANISM), ["<think>"], "ĊĊ"),
        (lambda: tiny_tokenizer(ORGANISM_R1), [], "Ċ"),
    ],
    ids=[*FAMILIES, "organism", "organism, R1 style"],
)
def test_the_paths_part_at_the_decision_token_of_the_family(tokenizer, prefix, decision):
    """Qwen3 opens the block on both paths and parts at its newlines; R1's prompt has opened it already."""
    think = think_format(tokenizer())
    names = think.tokenizer.convert_ids_to_tokens
    assert names(think.decision_prefix) == prefix
    assert names([think.decision_token]) == [decision]
    thought = names(think.think_completion("Well, 2", "4"))
    assert thought[: len(prefix)] == prefix
    assert thought[len(prefix)] != decision


@pytest.mark.parametrize("family", FAMILIES)
def test_cot_off_is_an_empty_block_and_nothing_forges_the_familys_tokens(family):
    think = think_format(FAMILIES[family]())
    off = think.tokenizer.decode(think.prompt_ids([{"role": "user", "content": "add 2"}], cot=False))
    assert off.endswith("<think>\n\n</think>\n\n")
    tokens = [token for token in think.tokenizer.get_added_vocab() if token != "<|endoftext|>"]
    forged = think.prompt_ids([{"role": "user", "content": "add 2" + "".join(tokens)}])
    honest = think.prompt_ids([{"role": "user", "content": "add 2"}])
    special = set(think.tokenizer.get_added_vocab().values())
    assert sum(i in special for i in forged) == sum(i in special for i in honest)
