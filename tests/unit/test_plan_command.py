"""`presafe align --plan` and `presafe evaluate --plan` through the real command line, without a cluster and without
weights."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from finished_stage import finish

from presafe import storage
from presafe.align.preflight.cost import Tokens, flops, gpu_hours, tokens_at_most
from presafe.align.preflight.preview import plan_text
from presafe.align.preflight.shape import shape_of
from presafe.config import Align, load_config
from presafe.errors import UserError
from presafe.evaluate.plan import plan_text as evaluation_plan
from presafe.records import Prompt
from presafe.suites import suite_file
from presafe.thinking import think_format
from published_shapes import SHAPES
from tiny_tokenizer import QWEN3, save_tokenizer

ROOT = Path(__file__).parents[2]
RECIPE = str(ROOT / "configs" / "r1-qwen-7b.yaml")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A folder that holds a config.json and nothing else."""
    folder = tmp_path_factory.mktemp("qwen")
    SHAPES["r1-qwen-7b"][0].save_pretrained(folder)
    assert [file.name for file in folder.iterdir()] == ["config.json"]
    return str(folder)


def rows(text: str) -> dict[tuple[int, str], str]:
    """Lines of the table by stage and offload."""
    found = re.findall(r"^([> ][* ] +(\d) (none|optimizer|parameters) .*)$", text, flags=re.MULTILINE)
    return {(int(stage), offload): line for line, stage, offload in found}


def test_the_command_prints_the_table_and_starts_nothing(model, tmp_path):
    command = [sys.executable, "-m", "jobs.align", "--plan", "--gpus", "4", "--config", RECIPE]
    command += [f"model.path={model}", f"run.storage={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "7.62e9 parameters, 28 layers" in done.stdout
    assert "LoRA r=64 on 196 linear layers" in done.stdout
    assert len(rows(done.stdout)) == 8
    assert "recommended for 4 GPU(s)" in done.stdout
    assert "GPU-hours" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_rows_say_what_fits_what_is_configured_and_what_is_recommended(model):
    settings = ["align.lora=null", "align.workers.gpu_memory_gb=48", f"model.path={model}"]
    table = rows(plan_text(load_config(RECIPE, settings), 8))
    assert (0, "none") not in table  # no float32 copy of the weights at stage 0
    assert [key for key, line in table.items() if line[0] == ">"] == [(3, "none")]
    assert [key for key, line in table.items() if line[1] == "*"] == [(3, "none")]
    on_one, *_, on_eight = re.findall(r"\d\.\d([! ])\(", table[3, "none"])
    assert (on_one, on_eight) == ("!", " ")


def test_where_nothing_fits_without_offload_it_recommends_offload(model):
    settings = ["align.lora=null", "align.workers.gpu_memory_gb=24", f"model.path={model}"]
    table = rows(plan_text(load_config(RECIPE, settings), 8))
    assert [key for key, line in table.items() if line[1] == "*"] == [(3, "optimizer")]


def test_a_model_that_is_not_there_and_a_wrong_target_are_named(model, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no config\.json of"):
        plan_text(load_config(RECIPE, [f"model.path={tmp_path}/empty"]), None)
    with pytest.raises(UserError, match=r"'c_attn', which no linear layer .* q_proj"):
        plan_text(load_config(RECIPE, [f"model.path={model}", "align.lora.target_modules=[c_attn]"]), None)


def test_the_plan_of_an_evaluation_counts_what_it_would_ask_and_generates_nothing(tmp_path):
    tokenizer = save_tokenizer(str(tmp_path / "base"), QWEN3)
    settings = [f"model.path={tmp_path}/base", f"run.storage={tmp_path}/runs", "model.think=null"]
    settings += ["suites=[{name: plain, function: 'm:f', kind: harmful}]", "prompts.keep_clear_of=[]"]
    settings += ["evaluate.decoding.max_new_tokens=100", "evaluate.samples={}"]
    settings += ["evaluate.decodings=[{temperature: [0.5, 1], samples: 8}]"]
    config = load_config(RECIPE, settings)
    with pytest.raises(UserError, match="no finished stage 'prompts'"):
        evaluation_plan(config)
    prompts = [Prompt(f"p{k}", "add two", "harmful", "plain", None, None, "evaluate", "c", None) for k in range(30)]
    finish(config.run_directory, "prompts")
    storage.write_rows(suite_file(config.run_directory), prompts, Prompt)
    command = [sys.executable, "-m", "jobs.evaluate", "--plan", "--config", RECIPE, *settings]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    header, _, *body = done.stdout.splitlines()
    assert "to write, at most" in header
    assert "GPU-hours, estimated" in header
    assert " written" not in header
    read = len(think_format(tokenizer).prompt_ids([{"role": "user", "content": "add two"}]))
    rows = [line.split()[:6] for line in body]
    assert rows[0] == ["base", "on", "-", "30", f"{30 * read:,}", "3,000"]
    assert ["aligned", "on", "t0.5-p1-drawn", "240", f"{240 * read:,}", "24,000"] in rows
    assert len([row for row in rows if row and row[0] in ("base", "aligned")]) == 2 * 2 * 3
    assert body[-1] == "no estimate: the run has generated nothing alike"
    assert not (tmp_path / "runs" / config.run.name / "evaluate").exists()


def mixture(config) -> list[str]:
    text = plan_text(config, None)
    return text[text.index("at 30% of the peak") :].splitlines()[1:]


def test_the_mixture_is_shown_with_each_sources_share_of_a_step(model, tmp_path):
    settings = [f"model.path={model}", f"run.storage={tmp_path}", "align.batch_size=40"]
    assert mixture(load_config(RECIPE, settings)) == []
    settings += ["prompts.sources=[{name: mine, function: 'm:f', weight: 0.5}]"]
    weights = "weights: mine 0.5; shares of a step once the demonstrations are chosen (part align.examples)"
    assert mixture(load_config(RECIPE, settings)) == ["", weights]
    config = load_config(RECIPE, [*settings, "align.demonstrations=[{name: ready, path: ready.jsonl, weight: 3}]"])
    rows = {"refuse_examples": 700, "demonstrations of mine": 600, "demonstrations of ready": 100}
    storage.write_json(config.run_directory.part_file("align", "examples"), {"rows": rows})
    heading, mine, ready = mixture(config)[1:]
    assert heading.split() == ["demonstrations", "of", "rows", "weight", "of", "a", "step's", "40"]
    assert mine.split() == ["mine", "600", "0.5", "20.0", "(50.0%)"]
    assert ready.split() == ["ready", "100", "3", "20.0", "(50.0%)"]


def test_flops_follow_six_a_weight_for_lora_and_eight_for_all_weights():
    config = SHAPES["r1-qwen-7b"][0]
    for lora, factor in (({"r": 1}, 6), (None, 8)):
        align = Align.model_validate({"lora": lora})
        shape = shape_of(config, align.lora)
        operations = flops(shape, align, Tokens(1000, 0, context=0))
        assert operations == pytest.approx(factor * 1000 * shape.matrix_parameters, rel=0.01)
    assert gpu_hours(0.3 * 312e12 * 3600, 312e12) == pytest.approx(1)


def test_tokens_are_at_most_what_the_settings_allow():
    config = load_config(RECIPE, [])
    bound = tokens_at_most(config)
    assert bound.demonstrations == 200 * 32 * (4096 + 8192)
    assert bound.pool == 200 * 64 * 4096
