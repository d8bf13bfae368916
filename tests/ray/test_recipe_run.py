"""A recipe as it is shipped, by README's command, on a hub on this machine: up to the teacher, which asks for GPUs.

Behind the recipe's hub ids are made data sets and random tiny models of the real architectures.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import ModernBertConfig, ModernBertForSequenceClassification

from family_tokenizers import r1_qwen
from hub_server import LET_IN, Hub, Repo, hub_server
from presafe import storage
from presafe.records import Prompt
from public_sets import put_public_sets
from support import random_qwen2

ROOT = Path(__file__).parents[2]
RECIPE = "configs/r1-qwen-7b.yaml"
MODEL, ENCODER, JUDGE = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "answerdotai/ModernBERT-base", "Qwen/Qwen3-8B"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder, tokenizer = tmp_path_factory.mktemp("models"), r1_qwen()
    stops = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.eos_token_id}
    random_qwen2(len(tokenizer), **stops).save_pretrained(folder / "model")
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    ids = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
    encoder = ModernBertConfig(vocab_size=len(tokenizer), max_position_embeddings=8192, **shape, **ids)
    ModernBertForSequenceClassification(encoder).save_pretrained(folder / "encoder")
    with hub_server() as running:
        put_public_sets(running, training_rows=2600)
        for name, repo_id in (("model", MODEL), ("encoder", ENCODER)):
            tokenizer.save_pretrained(folder / name)
            files = {file.name: file.read_bytes() for file in (folder / name).iterdir()}
            running.repos["models", repo_id] = Repo(files)
        running.repos["models", JUDGE] = Repo({"config.json": b"{}"})
        yield running


def presafe(hub: Hub, home: Path, *arguments: str, token: str | None = LET_IN) -> subprocess.CompletedProcess[str]:
    environment = os.environ | hub.environment(home, token) | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "presafe", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)


def test_without_a_token_nothing_is_made(hub, tmp_path):
    ended = presafe(hub, tmp_path / "home", "prompts", "--config", RECIPE, f"run.storage={tmp_path}/runs", token=None)
    assert ended.returncode == 2
    assert "presafe: found the gated data set allenai/wildjailbreak" in ended.stderr
    assert not list((tmp_path / "runs").rglob("*.parquet"))


def test_the_recipe_runs_up_to_the_teacher(hub, tmp_path):
    home, runs = tmp_path / "home", tmp_path / "runs"
    ended = presafe(hub, home, "run", "--config", RECIPE, f"run.storage={runs}")
    assert ended.returncode == 2, ended.stderr
    assert "needed 1 for stage 'teacher'" in ended.stderr.splitlines()[-1], ended.stderr
    run = runs / "r1-qwen-7b"
    suites = Counter(prompt.source for prompt in storage.read_rows(str(run / "suites" / "prompts.parquet"), Prompt))
    assert suites == {
        "jailbreakbench_harmful": 100,
        "wildjailbreak_eval_harmful": 500,
        "xstest_unsafe": 200,
        "jailbreakbench_benign": 100,
        "wildjailbreak_eval_benign": 210,
        "xstest_safe": 250,
        "math_500": 500,
        "aime_2024": 30,
        "gpqa_diamond": 198,
    }
    training = storage.read_rows(str(run / "prompts" / "prompts.parquet"), Prompt)
    assert Counter(prompt.split for prompt in training) == {"classifier": 1500, "validation": 300, "align": 6200}
    again = presafe(hub, home, "prompts", "--config", RECIPE, f"run.storage={runs}", token=None)
    assert "skipped" in again.stderr, again.stderr


def test_the_model_is_read_off_the_hub_and_then_off_the_cache(hub, tmp_path):
    home = tmp_path / "home"
    there = presafe(hub, home, "inspect", MODEL)
    assert there.returncode == 0, there.stderr
    assert "<think> </think>, opened by the prompt" in there.stdout
    asked = len(hub.requests)
    environment = os.environ | hub.environment(home) | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "presafe", "inspect", MODEL]
    offline = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert offline.stdout == there.stdout
    assert len(hub.requests) == asked
