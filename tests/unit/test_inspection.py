"""`presafe inspect` prints what a run would rely on, of a model, of its adapter and of a bare tokenizer."""

import shutil

import pytest

from family_tokenizers import r1_qwen, skywork
from presafe.align.preflight.inspection import run_inspect
from presafe.cli import main
from run_directory import save_model


def printed(capsys, model) -> dict[str, str]:
    run_inspect(str(model))
    pairs = (line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    return {name: value.strip() for name, value in pairs}


def test_of_a_model_it_prints_format_targets_and_recipe(tmp_path, capsys):
    save_model(tmp_path)
    found = printed(capsys, tmp_path / "base")
    assert found["think tags"].startswith("<think> </think>, opened by")
    assert found["Path A"].endswith("</think>\\n\\nANSWER<|im_end|>'")
    assert found["weights"] == "whole"
    assert found["LoRA targets"].startswith("q_proj k_proj v_proj o_proj")
    assert found["recipe"].startswith("configs/")


@pytest.mark.parametrize(("make", "opener"), [(r1_qwen, "the prompt"), (skywork, "the model")])
def test_a_tokenizer_alone_is_enough_for_the_format(tmp_path, capsys, make, opener):
    make().save_pretrained(tmp_path)
    found = printed(capsys, tmp_path)
    assert found["think tags"] == f"<think> </think>, opened by {opener}"
    assert found["CoT-OFF prompt"].endswith("<think>\\n\\n</think>\\n\\n'")
    assert found["model"].startswith("none")


def test_broken_weights_are_a_line_and_no_format_is_exit_code_2(tmp_path, capsys):
    save_model(tmp_path)
    (tmp_path / "base" / "model.safetensors").write_bytes(b"")
    assert "header cut off" in printed(capsys, tmp_path / "base")["weights"]
    (tmp_path / "base" / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(SystemExit) as ended:
        main(["inspect", str(tmp_path / "base")])
    assert ended.value.code == 2
    assert "model.think" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(SystemExit):
        main(["inspect", str(tmp_path / "base")])
