"""`presafe status`: who is at work on which part, and the same answer in whatever folder it is asked."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml
from scripted_process import free_port

from presafe import storage, writer
from presafe.cli import main
from presafe.config import load_config
from presafe.prompts.stage import parts
from presafe.stages import run_stage
from presafe.standing import keep

SETTINGS = {
    "run": {"name": "run"},
    "model": {"path": "base", "dtype": "float32"},
    "suites": [{"name": "plain", "path": "prompts.jsonl", "kind": "harmful"}],
    "prompts": {"sources": [{"name": "mine", "path": "prompts.jsonl", "kind": "harmful"}]},
}

WORKER = """
import time
from dataclasses import replace
from presafe import writer
from presafe.config import load_config
from presafe.prompts.stage import parts
from presafe.stages import run_stage
from presafe.standing import keep

writer.BEAT_S, writer.SETTLED_S = 0.1, 0.05

def work(folder):
    print("works", flush=True)
    time.sleep(600)

config = load_config("config.yaml", [])
with writer.sole_writer(config.run_directory.root):
    keep(config)
    run_stage(config.run_directory, "prompts", [replace(part, run=work) for part in parts(config)])
"""


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """A folder with a config whose paths are relative."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.jsonl").write_text('{"text": "add two"}\n')
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(SETTINGS))
    return tmp_path


def status(capsys, run="runs/run") -> dict[str, dict]:
    main(["status", run, "--json"])
    return {one.pop("part"): one for one in json.loads(capsys.readouterr().out)}


def test_a_part_that_is_worked_on_is_running_until_its_process_is_dead(capsys, monkeypatch):
    with subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "works\n"
        found = status(capsys)
        with monkeypatch.context() as patch:
            patch.setattr(writer, "_machine", lambda: "another")
            patch.setattr(writer, "LOOK_S", 0.05)
            assert status(capsys) == found, "its signs of life tell"
        main(["status", "runs/run"])
        worker.kill()
    frozen = found["prompts.suites"]
    assert frozen["state"] == "running"
    assert (frozen["running"]["pid"], frozen["running"]["host"]) == (worker.pid, socket.gethostname())
    told = f"prompts.suites     running      process {worker.pid} on {socket.gethostname()}, since "
    assert told + frozen["running"]["since"] in capsys.readouterr().out
    assert found["teacher.generate"]["state"] == "missing"
    interrupted = {"state": "interrupted", "differs": [], "running": None}
    assert status(capsys)["prompts.suites"] == interrupted
    monkeypatch.setattr(writer, "_machine", lambda: "another")
    monkeypatch.setattr(writer, "SILENCE_S", 0.3)
    assert status(capsys)["prompts.suites"] == interrupted


def test_what_an_earlier_writer_left_is_not_running(capsys, monkeypatch):
    def fail(_):
        raise InterruptedError

    monkeypatch.setattr(writer, "SETTLED_S", 0.05)
    config = load_config("config.yaml", [])
    keep(config)
    root = config.run_directory.root
    with pytest.raises(InterruptedError), writer.sole_writer(root):
        run_stage(config.run_directory, "prompts", [replace(part, run=fail) for part in parts(config)])
    with writer.sole_writer(root):
        assert status(capsys)["prompts.suites"]["state"] == "interrupted"


def test_it_says_the_same_in_another_folder(root, tmp_path_factory, capsys, monkeypatch):
    config = load_config("config.yaml", [])
    keep(config)
    run_stage(config.run_directory, "prompts", [replace(part, run=lambda _: {}) for part in parts(config)])
    here = status(capsys)
    assert here["prompts.suites"]["state"] == "done"
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert status(capsys, str(root / "runs/run")) == here
    storage.write_text("prompts.jsonl", "another file of that name")
    assert status(capsys, str(root / "runs/run")) == here
    (root / "prompts.jsonl").write_text('{"text": "add three"}\n')
    assert status(capsys, str(root / "runs/run"))["prompts.suites"]["state"] == "stale"


@pytest.mark.parametrize("named", ["--address", "RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"])
def test_a_named_cluster_that_does_not_answer_is_told_behind_the_parts(capsys, monkeypatch, named):
    config = load_config("config.yaml", [])
    keep(config)
    address = f"http://127.0.0.1:{free_port()}"
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.setenv(name, address if name == named else "")
    with pytest.raises(SystemExit) as ended:
        main(["status", "runs/run", *([named, address] if named == "--address" else [])])
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out.startswith("prompts.suites     missing")
    assert f"found no Ray dashboard at {address} (" in printed.err


@pytest.mark.parametrize("address", ["", "local"])
def test_where_no_cluster_is_named_none_is_asked(address):
    keep(load_config("config.yaml", []))
    program = (
        "import sys; from presafe.cli import main; main(['status', 'runs/run', '--json']); "
        "assert 'presafe.submission.client' not in sys.modules"
    )
    environment = {**os.environ, "RAY_ADDRESS": address, "RAY_API_SERVER_ADDRESS": ""}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert [set(part) for part in json.loads(ended.stdout)][:1] == [{"part", "state", "differs", "running"}]


def test_a_run_that_is_nowhere_is_told(capsys):
    with pytest.raises(SystemExit):
        main(["status", "runs/none"])
    assert "found no config.json in runs/none" in capsys.readouterr().err
