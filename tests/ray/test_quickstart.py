"""docs/quickstart.md on a tiny model: its commands, in their order, up to the teacher; its config, for every stage."""

import re
import shlex
from pathlib import Path

import pytest
from command_lines import parsed
from refusing_model import COUNT, answered, refused, save_model

from presafe import storage
from presafe.cli import main
from presafe.config import STAGES, load_config

PAGE = (Path(__file__).parents[2] / "docs" / "quickstart.md").read_text()
SHORT = ["teacher.answer.max_new_tokens=32", "teacher.trace.max_new_tokens=48"]


def blocks(language: str) -> list[str]:
    """The page's blocks of code in a language; commands are in none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    return [block for name, block in found if name == language]


def commands() -> list[list[str]]:
    """Arguments of every `presafe` command of the page."""
    lines = "".join(blocks("")).splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("presafe ")]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The reader's working directory: a model, two files of prompts and the page's second config."""
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "MODEL")
    for kind, prompt in (("harmful", refused), ("benign", answered)):
        rows = "".join(f"{number},{prompt(number)}\n" for number in range(COUNT))
        (tmp_path / f"{kind}.csv").write_text(f"id,goal\n{rows}")
    (config,) = blocks("yaml")
    (tmp_path / "first.yaml").write_text(config)
    return tmp_path


@pytest.mark.usefixtures("local_ray")
def test_the_page_leads_from_a_model_to_its_teacher(folder, capsys):
    run = [parsed(arguments) for arguments in commands()]
    assert [verb for verb, given in run if verb in STAGES and not given.get("plan")] == list(STAGES)
    done = set()
    for arguments, (verb, _) in zip(commands(), run, strict=True):
        if verb == "signals":
            break
        main(arguments + (SHORT if verb == "teacher" else []))
        done.add(verb)
    assert done == {"inspect", "init", "run", "align", "prompts", "teacher"}
    told = capsys.readouterr().out
    assert "configured: weights" in told
    assert "# what the run asks of the cluster" in told
    for stage in STAGES:
        assert load_config("first.yaml", []).results()[stage]
    manifest = storage.read_json(str(folder / "runs" / "first" / "teacher" / "manifest.json"))["rows"]
    assert manifest["refusals"] == 36  # of 40, four are in the suite
    assert manifest["traces"] > 0
    assert manifest["unscored"] == 0
