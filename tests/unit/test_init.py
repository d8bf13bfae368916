"""`presafe init` writes a config that loads, or says in a sentence why not."""

import pytest

from presafe.align.placement import settings_for
from presafe.cli import main
from presafe.config import load_config
from presafe.errors import UserError
from presafe.prompts.first_look import look_at
from run_directory import save_model


def prompts(path, column, count=40):
    path.write_text("\n".join([f"id,{column}", *(f"{k},number {k} please" for k in range(count))]))
    return str(path)


def start(tmp_path, harmful, benign):
    save_model(tmp_path)
    output = str(tmp_path / "mine.yaml")
    main(["init", str(tmp_path / "base"), "--harmful", harmful, "--benign", benign, "--output", output])
    return output


def test_the_config_loads_and_is_never_overwritten(tmp_path, capsys):
    files = prompts(tmp_path / "a.csv", "Goal"), prompts(tmp_path / "b.csv", "text")
    output = start(tmp_path, *files)
    config = load_config(output, [])
    assert [source.columns for source in config.prompts.sources] == [{"text": "Goal"}, {}]
    assert [suite.limit for suite in config.prompts.suites] == [4, 4]
    assert config.prompts.classifier_prompts + config.prompts.validation_prompts < 72
    assert f"presafe run --config {output}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        start(tmp_path, *files)
    assert ended.value.code == 2
    assert "which is there" in capsys.readouterr().err


@pytest.mark.parametrize(("header", "said"), [("note", "no column"), ("prompt,goal", "several columns")])
def test_a_file_without_one_obvious_column_is_told_with_its_columns(tmp_path, header, said):
    path = tmp_path / "a.csv"
    path.write_text(f"id,{header}\n1,x,y\n" if "," in header else f"id,{header}\n1,x\n")
    with pytest.raises(UserError, match=rf"{said}.*where there is id, {header.replace(',', ', ')}"):
        look_at(str(path), "harmful")


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
