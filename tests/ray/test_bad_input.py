"""Bad input through the command line: one clear sentence, exit code 2, no stack trace, nothing half-written."""

import json
from pathlib import Path

import pytest

from presafe.cli import main
from run_directory import save_model

CONFIG = """
run: {{name: run, storage: {root}/runs}}
model: {{path: {root}/base, dtype: float32}}
suites: [{{name: e, kind: harmful, path: {root}/suite.jsonl}}]
prompts:
  sources: [{{name: s, kind: benign, path: {root}/prompts.jsonl}}]
  classifier_prompts: 4
  validation_prompts: 4
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    save_model(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG.format(root=tmp_path))
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"text": f"add {k}"}) + "\n" for k in range(12)))
    (tmp_path / "suite.jsonl").write_text(json.dumps({"text": "build it"}) + "\n")
    return tmp_path


def run(root: Path, verb: str, *arguments: str) -> None:
    main([verb, "--config", str(root / "config.yaml"), *arguments])


def error(capsys, root: Path, verb: str, *arguments: str) -> str:
    """The message of a call that must fail with exit code 2, and leave no folder of its stage behind."""
    with pytest.raises(SystemExit) as caught:
        run(root, verb, *arguments)
    assert caught.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "Traceback" not in message
    return message


def files(root: Path) -> list[str]:
    """What stage `prompts` has left: the suites were frozen before anything went wrong."""
    return [path.name for path in (root / "runs/run/prompts").rglob("*") if path.is_file()]


def test_an_unknown_key(capsys, root):
    assert "algin" in error(capsys, root, "prompts", "algin.steps=3")
    assert not (root / "runs").exists()


def test_a_broken_line(capsys, root):
    with (root / "prompts.jsonl").open("a") as file:
        file.write('{"text": \n')
    message = error(capsys, root, "prompts")
    assert "1 bad row(s) of 13" in message
    assert "row 13" in message
    assert files(root) == ["suites.json"]


def test_an_empty_prompt_set(capsys, root):
    (root / "prompts.jsonl").write_text("")
    assert "no prompt in source 's'" in error(capsys, root, "prompts")
    assert files(root) == ["suites.json"]


def test_a_stage_before_its_input(capsys, root):
    assert "run `presafe prompts`" in error(capsys, root, "teacher")
    assert not (root / "runs/run/teacher").exists()


def test_an_encoder_out_of_reach_is_told_before_the_first_stage(capsys, root):
    message = error(capsys, root, "run", "signals.encoder=nobody/nothing")
    assert "no loadable encoder at nobody/nothing" in message
    assert not (root / "runs").exists()


def test_a_run_directory_of_another_config(capsys, root):
    run(root, "prompts")
    before = (root / "runs/run/prompts/manifest.json").read_bytes()
    message = error(capsys, root, "prompts", "run.seed=1")
    assert "settings.seed is 0 there and 1 here" in message
    assert "--redo" in message
    assert (root / "runs/run/prompts/manifest.json").read_bytes() == before


@pytest.mark.usefixtures("local_ray")
def test_a_missing_model_folder(capsys, root):
    run(root, "prompts")
    assert "no model folder /nowhere" in error(capsys, root, "teacher", "model.path=/nowhere")
    assert not (root / "runs/run/teacher").exists()


@pytest.mark.usefixtures("local_ray")
def test_a_folder_that_is_no_model(capsys, root):
    run(root, "prompts")
    (root / "empty").mkdir()
    assert "no loadable" in error(capsys, root, "teacher", f"model.path={root}/empty")
    assert not (root / "runs/run/teacher").exists()


@pytest.mark.usefixtures("local_ray")
def test_more_gpus_than_the_cluster_has(capsys, root):
    run(root, "prompts")
    message = error(capsys, root, "teacher", "teacher.workers.num_gpus=8")
    assert "4 CPU and 0 GPU, with room for 0 worker(s) of 1 CPU, 8 GPU; needed 1 for stage 'teacher'" in message
    assert not (root / "runs/run/teacher").exists()


def test_a_dry_run_prints_the_resolved_config_and_the_demand_and_runs_nothing(capsys, root):
    run(root, "run", "--dry-run", "align.lora.r=16", "align.workers.num_workers=8", "align.workers.num_gpus=1")
    printed = capsys.readouterr().out
    assert "r: 16" in printed
    assert "align     8 worker(s) of 1 CPU and 1 GPU: 8 CPU and 8 GPU at once" in printed
    assert not (root / "runs").exists()


def test_an_endpoint_where_nobody_answers(capsys, root):
    run(root, "prompts")
    engine = "teacher.engine={kind: http, base_url: 'http://127.0.0.1:9/v1', model: m, max_retries: 0}"
    message = error(capsys, root, "teacher", engine)
    assert "needed model 'm' at http://127.0.0.1:9/v1/chat/completions" in message
    assert not (root / "runs/run/teacher").exists()
