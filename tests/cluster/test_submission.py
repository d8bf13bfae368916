"""Jobs on a real cluster with a dashboard and a token: submitted, followed, cancelled through the command line."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from jobs_cluster import Command, Submitter, jobs_cluster, working_directory
from jobs_cluster import submitter as submitter_of

from prompt_stage import texts, write_jsonl

DRIVERS = 2
"""Of stages, that the cluster has a CPU for."""
WAITING = """
import pathlib, time

def rows(seed):
    pathlib.Path({mark!r}).touch()
    while not pathlib.Path({go!r}).exists():
        time.sleep(0.05)
    yield from ({{"text": text}} for text in {texts!r})
"""


def config(submitter: Submitter, name: str, **prompts: object) -> str:
    """A small run of stage `prompts`."""
    source = {"name": "s", "kind": "harmful", "path": str(submitter.folder / "rows.jsonl")}
    suite = {"name": "e", "kind": "harmful", "path": str(submitter.folder / "suite.jsonl")}
    values = {
        "run": {"name": name, "storage": str(submitter.folder / "runs")},
        "model": {"path": "org/name"},
        "suites": [suite],
        "prompts": {"sources": [source], "classifier_prompts": 10, "validation_prompts": 4, **prompts},
    }
    (submitter.folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return f"{name}.yaml"


@dataclass
class Waiting:
    """A config whose source waits until it may go on."""

    config: str
    mark: Path
    go: Path


def waiting(submitter: Submitter, name: str) -> Waiting:
    mark, go = submitter.folder / f"{name}.mark", submitter.folder / f"{name}.go"
    code = WAITING.format(mark=str(mark), go=str(go), texts=texts(40))
    (submitter.folder / f"{name}.py").write_text(code)
    source = {"name": "s", "kind": "harmful", "function": f"{name}:rows"}
    return Waiting(config(submitter, name, sources=[source]), mark, go)


def with_prompts(folder: Path) -> Path:
    """A working directory with files of prompts."""
    working_directory(folder)
    write_jsonl(folder / "rows.jsonl", texts(40))
    write_jsonl(folder / "suite.jsonl", texts(3, seed=1))
    return folder


@pytest.fixture(scope="module")
def submitter(tmp_path_factory) -> Iterator[Submitter]:
    """A head with CPUs alone."""
    folder, outputs = with_prompts(tmp_path_factory.mktemp("w")), tmp_path_factory.mktemp("o")
    with jobs_cluster(DRIVERS) as cluster:
        cluster.start_head(DRIVERS)
        yield submitter_of(cluster, folder, outputs)


@dataclass
class Started:
    """What runs side by side: two jobs that wait, on all CPUs, and a pipeline whose stage gets one behind them."""

    held: Waiting
    submitting: Command
    stopped: Waiting
    stopping: Command
    failing: Command


@dataclass
class Released:
    """What goes on side by side then: the one job is followed to its end, the other cancelled."""

    second: Command
    logs: Command
    cancel: Command


@pytest.fixture(scope="module")
def started(submitter) -> Started:
    held, stopped = waiting(submitter, "held"), waiting(submitter, "stopped")
    submitting = submitter.start("submit", "prompts", "--config", held.config)
    stopping = submitter.start("submit", "pipeline", "--config", stopped.config)
    submitting.until(held.mark.exists)
    stopping.until(stopped.mark.exists)
    failing = submitter.start("submit", "pipeline", "--config", config(submitter, "failing"))
    return Started(held, submitting, stopped, stopping, failing)


@pytest.fixture(scope="module")
def released(submitter, started) -> Released:
    started.submitting.process.kill()
    second = submitter.start("submit", "prompts", "--config", started.held.config)
    logs = submitter.start("logs", str(submitter.folder / "runs/held"))
    second.said("job held-prompts-1 still runs")
    started.held.go.touch()
    return Released(second, logs, submitter.start("cancel", "stopped"))


@pytest.fixture(scope="module")
def again(submitter, started, released) -> Command:
    """A stage that is done, submitted again."""
    released.second.end()
    return submitter.start("submit", "prompts", "--config", started.held.config)


def test_a_job_that_waits_for_a_node_is_told_before_there_is_a_run_directory(submitter, started):
    started.failing.said("job failing-prompts-1 submitted")
    code, printed = submitter.run("status", f"{submitter.folder}/runs/failing", "--json")
    assert code == 0, printed
    found = json.loads(printed)
    assert found["parts"] == []
    pipeline, prompts = found["jobs"]
    assert (pipeline["job"], pipeline["state"]) == ("failing-pipeline-1", "running")
    assert (prompts["job"], prompts["stage"], prompts["state"]) == ("failing-prompts-1", "prompts", "pending")
    assert prompts["told"].startswith("job failing-prompts-1 waits for a node with a free CPU for its driver")


@pytest.mark.usefixtures("again")
def test_a_running_job_is_followed_without_its_submitter_and_not_doubled(submitter, started, released):
    for follower in (released.second, released.logs):
        code, printed = follower.end()
        assert code == 0, printed
        assert f"prompts: {submitter.folder}/runs/held/prompts" in printed.splitlines()
        assert printed.splitlines()[-1] == "job held-prompts-1 succeeded"
    submitting = started.submitting.printed
    assert "upload: " in submitting
    assert "job held-prompts-1 submitted" in submitting
    assert "\r" not in submitting + released.second.printed
    assert (submitter.folder / "runs/held/prompts/prompts.parquet").exists()


def test_a_cancelled_job_is_told_apart_from_a_failed_one(submitter, started, released):
    code, printed = released.cancel.end()
    assert code == 0, printed
    assert printed.splitlines() == [
        "job stopped-pipeline-1 ended as STOPPED",
        "job stopped-prompts-1 ended as STOPPED",
    ]
    cancel, logs = submitter.start("cancel", "stopped"), submitter.start("logs", "stopped", "prompts")
    status = submitter.start("status", f"{submitter.folder}/runs/stopped")
    code, printed = started.stopping.end()
    assert code == 3
    assert printed.splitlines()[-1] == "presafe: job stopped-pipeline-1 was stopped; submitted again, it goes on"
    assert cancel.end() == (0, "no job of stopped runs\n")
    assert logs.end()[0] == 3
    code, printed = status.end()
    assert code == 0, printed
    *parts, pipeline, prompts = printed.splitlines()
    assert parts[1].split()[:2] == ["prompts.gather", "interrupted"]
    assert pipeline.startswith("job stopped-pipeline-1 was stopped; submitted again, it goes on (submitted 20")
    assert prompts.startswith("job stopped-prompts-1 was stopped")


def test_a_stage_is_done_once(submitter, again):
    code, printed = again.end()
    assert (code, printed.splitlines()[-1]) == (0, "job held-prompts-2 succeeded"), printed
    code, printed = submitter.run("logs", "held", "prompts")
    assert code == 0
    assert f"prompts: {submitter.folder}/runs/held/prompts" in printed.splitlines()


@pytest.mark.usefixtures("released")
def test_a_pipeline_ends_with_the_stage_that_fails(started):
    code, printed = started.failing.end()
    assert code == 1, printed
    assert "job failing-prompts-1 succeeded" in printed
    assert "presafe: job failing-teacher-1 failed: its driver ended with exit code" in printed
    assert printed.splitlines()[-1].startswith("presafe: job failing-pipeline-1 failed")


def test_what_is_wrong_with_the_cluster_is_one_sentence(submitter):
    """Given side by side: each takes a Python that imports Ray."""
    environments = {
        "found no Ray dashboard at http://127.0.0.1:1 (": {"RAY_API_SERVER_ADDRESS": "http://127.0.0.1:1"},
        "that does not let this process in": {"RAY_AUTH_MODE": "disabled"},
        "found no job of 'nobody' on this cluster": {},
    }
    given = {told: submitter.start("logs", "nobody", **changed) for told, changed in environments.items()}
    for told, command in given.items():
        code, printed = command.end()
        assert code == 2
        assert told in printed
        assert len(printed.splitlines()) == 1, printed


def test_what_is_not_fit_to_upload_is_refused(submitter, tmp_path):
    folder = with_prompts(tmp_path / "w")
    large = replace(submitter, folder=folder)
    file = config(large, "large")
    (tmp_path / "outside.yaml").write_text((folder / file).read_text())
    (folder / "weights.bin").write_bytes(os.urandom(6_000_000))
    given = {
        "outside.yaml, which is not among what is uploaded": ["--config", str(tmp_path / "outside.yaml")],
        "weights.bin (6.0 MB)": ["--config", file],
        "whose working directory is a temporary copy": ["--config", file, "run.storage=runs"],
    }
    commands = {told: large.start("submit", "prompts", *arguments) for told, arguments in given.items()}
    for told, command in commands.items():
        code, printed = command.end()
        assert code == 2
        assert told in printed
        assert ("MB to upload" in printed) == ("weights" in told)
