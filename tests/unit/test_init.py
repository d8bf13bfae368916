"""`presafe init` writes a config that loads, or says in a sentence why not."""

from pathlib import Path

import pytest

from presafe.align.preflight.placement import settings_for
from presafe.cli import main
from presafe.cluster.demand import demands
from presafe.config import load_config
from presafe.errors import UserError
from presafe.new_config import write_config
from presafe.prompts.first_look import look_at
from run_directory import save_model


def prompts(path, column, count=40):
    path.write_text("\n".join([f"id,{column}", *(f"{k},number {k} please" for k in range(count))]))
    return str(path)


def start(tmp_path, harmful, benign, *more):
    tmp_path.mkdir(exist_ok=True)
    save_model(tmp_path)
    output = str(tmp_path / "mine.yaml")
    main(["init", str(tmp_path / "base"), "--harmful", harmful, "--benign", benign, "--output", output, *more])
    return output


def test_the_config_loads_and_is_never_overwritten(tmp_path, capsys):
    files = prompts(tmp_path / "a.csv", "Goal"), prompts(tmp_path / "b.csv", "text")
    output = start(tmp_path, *files)
    config = load_config(output, [])
    assert [source.columns for source in config.prompts.sources] == [{"text": "Goal"}, {}]
    assert [suite.limit for suite in config.suites] == [4, 4]
    assert config.prompts.classifier_prompts + config.prompts.validation_prompts < 72
    assert "&" not in Path(output).read_text()  # YAML's anchors, which few can read
    told = capsys.readouterr().out
    assert f"presafe run --config {output}" in told
    assert "presafe serve runs/mine/model  " in told
    with pytest.raises(SystemExit) as ended:
        start(tmp_path, *files)
    assert ended.value.code == 2
    assert "which is there" in capsys.readouterr().err


@pytest.mark.parametrize(("header", "said"), [("note", "no column"), ("prompt,goal", "several columns")])
def test_a_file_without_one_obvious_column_is_told_with_its_columns(tmp_path, header, said):
    path = tmp_path / "a.csv"
    path.write_text(f"id,{header}\n1,x,y\n" if "," in header else f"id,{header}\n1,x\n")
    with pytest.raises(UserError, match=rf"{said}.*where there is id, {header.replace(',', ', ')}.*--harmful-column"):
        look_at(str(path), "harmful")


def test_a_column_that_cannot_be_guessed_is_named(tmp_path, capsys):
    harmful, benign = prompts(tmp_path / "a.csv", "note"), prompts(tmp_path / "b.csv", "prompt_goal")
    output = start(tmp_path, harmful, benign, "--harmful-column", "note", "--benign-column", "prompt_goal")
    columns = [{"text": "note"}, {"text": "prompt_goal"}]
    assert [source.columns for source in load_config(output, []).prompts.sources] == columns
    with pytest.raises(SystemExit):
        start(tmp_path / "other", harmful, benign, "--harmful-column", "nota")
    assert "no column 'nota'" in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no file"):
        look_at(str(tmp_path / "none.csv"), "benign")


def test_what_fits_is_placed_on_all_gpus_and_too_little_memory_is_refused(tmp_path):
    save_model(tmp_path)
    folder = str(tmp_path / "base")
    assert settings_for(folder, 0, None) == ("float32", {"zero_stage": 0})
    dtype, roomy = settings_for(folder, 2, 80e9)
    assert (dtype, roomy["zero_stage"], roomy["workers"]["num_workers"]) == ("bfloat16", 0, 2)
    with pytest.raises(UserError, match="on each GPU"):
        settings_for(folder, 1, 1e8)


def test_a_worker_a_gpu_has_room_on_the_private_cluster(tmp_path, capsys):
    output, files = str(tmp_path / "mine.yaml"), {"harmful": "a.csv", "benign": "b.csv"}
    workers = {"num_workers": 8, "num_gpus": 1, "gpu_memory_gb": 80.0}
    write_config(output, "a/b", files, dict.fromkeys(files, ({"text": "text"}, 900)), "bfloat16", {"workers": workers})
    config = load_config(output, [])
    for demand in demands(config):
        assert demand.total["CPU"] < config.cluster.local_cpus
        assert demand.total["GPU"] == (8 if demand.stage in ("teacher", "align", "evaluate") else 1)
    assert "runs/mine/model workers.num_gpus=1" in capsys.readouterr().out


@pytest.mark.parametrize("output", ["no folder/mine.yaml", "my config.yaml"])
def test_an_output_that_cannot_be_is_told(tmp_path, capsys, output):
    files = ["--harmful", prompts(tmp_path / "a.csv", "text"), "--benign", prompts(tmp_path / "b.csv", "text")]
    with pytest.raises(SystemExit) as ended:
        main(["init", str(tmp_path), *files, "--output", str(tmp_path / output)])
    assert ended.value.code == 2
    assert "found --output" in capsys.readouterr().err


def test_a_few_prompts_are_too_few(tmp_path, capsys):
    with pytest.raises(SystemExit):
        start(tmp_path, prompts(tmp_path / "a.csv", "text", 3), prompts(tmp_path / "b.csv", "text"))
    assert "found 3 harmful prompts" in capsys.readouterr().err
