"""Jobs on a real cluster with a dashboard and a token: submitted, followed, cancelled through the command line."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml
from scripted_process import free_port, listens

from prompt_stage import texts, write_jsonl

ROOT = Path(__file__).parents[2]
WAIT_S = 300.0
WAITING = """
import pathlib, time

def rows(seed):
    pathlib.Path({mark!r}).touch()
    while not pathlib.Path({go!r}).exists():
        time.sleep(0.05)
    yield from ({{"text": text}} for text in {texts!r})
"""


@dataclass
class Submitter:
    """A working directory with the code, and commands given in it to a cluster."""

    folder: Path
    environment: dict[str, str]

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "presafe", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, **self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        process = self.start(*arguments, **environment)
        printed, _ = process.communicate(timeout=WAIT_S)
        return process.returncode, printed

    def config(self, name: str, **prompts: object) -> str:
        """A small run of stage `prompts`."""
        source = {"name": "s", "kind": "harmful", "path": str(self.folder / "rows.jsonl")}
        suite = {"name": "e", "kind": "harmful", "path": str(self.folder / "suite.jsonl")}
        values = {
            "run": {"name": name, "storage": str(self.folder / "runs")},
            "model": {"path": "org/name"},
            "suites": [suite],
            "prompts": {"sources": [source], "classifier_prompts": 10, "validation_prompts": 4, **prompts},
        }
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
        return f"{name}.yaml"


@dataclass
class Waiting:
    """A config whose source waits until it may go on."""

    config: str
    mark: Path
    go: Path

    def wait(self) -> None:
        until(self.mark.exists)


def until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.05)


def waiting(submitter: Submitter, name: str) -> Waiting:
    mark, go = submitter.folder / f"{name}.mark", submitter.folder / f"{name}.go"
    code = WAITING.format(mark=str(mark), go=str(go), texts=texts(40))
    (submitter.folder / f"{name}.py").write_text(code)
    source = {"name": "s", "kind": "harmful", "function": f"{name}:rows"}
    return Waiting(submitter.config(name, sources=[source]), mark, go)


@pytest.fixture(scope="module")
def submitter(tmp_path_factory) -> Iterator[Submitter]:
    folder = tmp_path_factory.mktemp("w")
    temporary = tmp_path_factory.mktemp("r")
    token = temporary / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    for room in ("presafe", "jobs", "serve"):
        (folder / room).symlink_to(ROOT / room)
    (folder / ".rayignore").write_text("/runs\n")
    write_jsonl(folder / "rows.jsonl", texts(40))
    write_jsonl(folder / "suite.jsonl", texts(3, seed=1))
    port, dashboard = free_port(), free_port()
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    short = f"/tmp/r{os.getpid()}"
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=4"]
    command += [f"--port={port}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"]
    command += ["--node-ip-address=127.0.0.1", f"--temp-dir={short}", "--object-store-memory=100000000"]
    command += ["--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0"]
    with open(temporary / "head.log", "w") as log:
        head = subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log)
    try:
        until(lambda: listens(dashboard) or head.poll() is not None)
        assert head.poll() is None, (temporary / "head.log").read_text()
        yield Submitter(folder, environment | {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}"})
    finally:
        for process in [*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)]:
            process.kill()
        head.wait()
        subprocess.run(["rm", "-rf", short], check=True)


def test_a_stage_is_submitted_followed_and_done_once(submitter):
    config = submitter.config("small")
    code, printed = submitter.run("submit", "prompts", "--config", config)
    assert code == 0, printed
    assert "upload: " in printed
    assert "job small-prompts-1 submitted" in printed
    assert f"prompts: {submitter.folder}/runs/small/prompts" in printed.splitlines()
    assert "\r" not in printed
    assert (submitter.folder / "runs/small/prompts/prompts.parquet").exists()
    code, printed = submitter.run("submit", "prompts", "--config", config)
    assert (code, printed.splitlines()[-1]) == (0, "job small-prompts-2 succeeded"), printed
    code, printed = submitter.run("logs", "small", "prompts")
    assert code == 0
    assert f"prompts: {submitter.folder}/runs/small/prompts" in printed.splitlines()


def test_a_running_job_is_followed_without_its_submitter_and_not_doubled(submitter):
    held = waiting(submitter, "held")
    process = submitter.start("submit", "prompts", "--config", held.config)
    held.wait()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    second = submitter.start("submit", "prompts", "--config", held.config)
    assert second.stdout is not None
    while not (line := second.stdout.readline()).startswith("job held-prompts-1 still runs"):
        assert line, "it ended"
    logs = submitter.start("logs", str(submitter.folder / "runs/held"))
    held.go.touch()
    for follower in (second, logs):
        printed, _ = follower.communicate(timeout=WAIT_S)
        assert follower.returncode == 0, printed
        assert printed.splitlines()[-1] == "job held-prompts-1 succeeded"


def test_a_cancelled_job_is_told_apart_from_a_failed_one(submitter):
    held = waiting(submitter, "stopped")
    follower = submitter.start("submit", "pipeline", "--config", held.config)
    held.wait()
    code, printed = submitter.run("cancel", "stopped")
    assert code == 0, printed
    assert printed.splitlines() == [
        "job stopped-pipeline-1 ended as STOPPED",
        "job stopped-prompts-1 ended as STOPPED",
    ]
    printed, _ = follower.communicate(timeout=WAIT_S)
    assert follower.returncode == 3
    assert printed.splitlines()[-1] == "presafe: job stopped-pipeline-1 was stopped; submitted again, it goes on"
    assert submitter.run("cancel", "stopped") == (0, "no job of stopped runs\n")
    assert submitter.run("logs", "stopped", "prompts")[0] == 3


def test_a_pipeline_ends_with_the_stage_that_fails(submitter):
    config = submitter.config("failing")
    code, printed = submitter.run("submit", "pipeline", "--config", config)
    assert code == 1, printed
    assert "job failing-prompts-1 succeeded" in printed
    assert "presafe: job failing-teacher-1 failed: its driver ended with exit code" in printed
    assert printed.splitlines()[-1].startswith("presafe: job failing-pipeline-1 failed")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("address", "found no Ray dashboard at http://127.0.0.1:1 ("),
        ("token", "that does not let this process in"),
        ("run", "found no job of 'nobody' on this cluster"),
    ],
)
def test_what_is_wrong_with_the_cluster_is_one_sentence(submitter, change, told):
    environment = {
        "address": {"RAY_API_SERVER_ADDRESS": "http://127.0.0.1:1"},
        "token": {"RAY_AUTH_MODE": "disabled"},
        "run": {},
    }
    code, printed = submitter.run("logs", "nobody", **environment[change])
    assert code == 2
    assert told in printed
    assert len(printed.splitlines()) == 1, printed


def test_what_is_not_fit_to_upload_is_refused(submitter, tmp_path):
    config = submitter.config("large")
    (tmp_path / "outside.yaml").write_text((submitter.folder / config).read_text())
    code, printed = submitter.run("submit", "prompts", "--config", str(tmp_path / "outside.yaml"))
    assert code == 2
    assert "outside.yaml, which is not among what is uploaded" in printed
    (submitter.folder / "weights.bin").write_bytes(os.urandom(6_000_000))
    try:
        code, printed = submitter.run("submit", "prompts", "--config", config)
    finally:
        (submitter.folder / "weights.bin").unlink()
    assert code == 2
    assert "MB to upload" in printed
    assert "weights.bin (6.0 MB)" in printed
    code, printed = submitter.run("submit", "prompts", "--config", config, "run.storage=runs")
    assert code == 2
    assert "whose working directory is a temporary copy" in printed
