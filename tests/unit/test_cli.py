"""The command line: what is wrong is told in a line, before anything heavy is imported."""

import subprocess
import sys

import click
import pytest
from command_lines import parsed

from presafe.cli import VERBS, main, verbs

WRONG = {
    "no such verb": (["trian"], "No such command 'trian'"),
    "a verb alone": (["serve"], "Missing argument 'RUN|MODEL'"),
    "no config": (["run"], "Missing option '--config'"),
    "no such option": (["run", "--config", "c.yaml", "--froce"], "No such option"),
    "no number": (["align", "--config", "c.yaml", "--gpus", "two"], "'two' is not a valid integer"),
    "an argument too many": (["status", "a", "b"], "unexpected extra argument"),
    "no such action": (["key", "ad", "keys.yaml", "ada"], "No such command 'ad'"),
    "no such file": (["run", "--config", "none.yaml"], "none.yaml"),
    "no such setting": (["serve", "model", "gat=on"], "gat"),
}


@pytest.mark.parametrize(("arguments", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_one_line_and_code_2(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.startswith("presafe: ")
    assert (told.out, told.err.count("\n")) == ("", 1)


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_is_there_and_ends_well(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith(f"Usage: presafe {'VERB' if arguments == ['--help'] else arguments[0]}")
    assert all(verb in told for verb in VERBS) or arguments != ["--help"]


def test_options_and_overrides_come_in_any_order():
    verb, given = parsed(["run", "a.b=-1", "--redo", "c.d=x y", "--config", "c.yaml", "e.f=[--odd]"])
    assert (verb, given["overrides"]) == ("run", ("a.b=-1", "c.d=x y", "e.f=[--odd]"))
    assert (given["config"], given["redo"], given["force"]) == ("c.yaml", True, False)
    assert parsed(["key", "add", "keys.yaml", "ada", "--concurrency", "3"])[1]["concurrency"] == 3


def test_every_verb_is_a_function_of_its_file():
    context = click.Context(verbs)
    for verb in VERBS:
        command = verbs.get_command(context, verb)
        assert command is not None
        assert command.name == verb
        assert command.help, verb


def test_help_imports_nothing_heavy():
    program = """
import sys
from presafe.cli import VERBS, main
for verb in VERBS:
    try:
        main([verb, "--help"])
    except SystemExit as ended:
        assert ended.code == 0
print("heavy:", *sorted({"ray", "torch", "transformers", "pandas"} & set(sys.modules)))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "heavy:"


def test_ctrl_c_is_the_verbs_own(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("presafe.standing.print_status", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main(["status", "run"])
