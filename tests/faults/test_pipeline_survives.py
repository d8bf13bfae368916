"""A pipeline submitted to three nodes that share an S3 API and nothing else; nodes go, with and without notice.

The submitting process is killed too, the run is cancelled and submitted again, and the head ends. The report is that of
a run on one machine. Prints what each death cost.
"""

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fsspec
import pytest
import yaml
from jobs_cluster import Command, JobsCluster, Submitter, jobs_cluster, submitter, until, working_directory
from refusing_model import answered, refused, save_model
from s3_server import s3_server

from presafe import storage
from presafe.config import STAGES
from presafe.storage.files import file_system

NODES, CPUS = 3, 2
SUITE, ROWS = 30, 150
RUNS = "s3://bucket/runs"
STRIKES = {
    "prompts": ("writer.json", "jobs.prompts"),
    "teacher": ("teacher/answers/**/*.parquet", "Generator"),
    "signals": ("signals/progress.json", "RayTrainWorker"),
    "align": ("align/checkpoints/last_committed.json", "RayTrainWorker"),
    "evaluate": ("evaluate/**/*.parquet", "jobs.evaluate"),
}
"""When a node is killed in each stage, by a file of the run, and which: one that has such a process."""
NOTICE_S = 20
END_S = 900.0


def config(name: str) -> dict[str, Any]:
    short = {"temperature": 0.6, "top_p": 1.0}
    return {
        "run": {"name": name, "storage": RUNS},
        "model": {"path": "s3://bucket/model", "dtype": "float32"},
        "suites": [_rows(kind, "suite") for kind in ("harmful", "benign")],
        "prompts": {
            "sources": [_rows(kind, "train") for kind in ("harmful", "benign")],
            "keep_clear_of": ["harmful", "benign"],
            "classifier_prompts": 100,
            "validation_prompts": 60,
        },
        "teacher": {
            "workers": {"num_workers": 2},
            "answer": {**short, "max_new_tokens": 32},
            "trace": {**short, "max_new_tokens": 48},
            "rows_per_block": 8,
        },
        "signals": {
            "encoder": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
            "learning_rate": 0.003,
            "epochs": 8,
            "batch_size": 8,
            "max_tokens": 32,
            "noise_tokens": 2,
            "leave_one_source_out": False,
            "baselines": False,
        },
        "align": {
            "workers": {"num_workers": 2},
            "zero_stage": 2,
            "lora": {"r": 4, "alpha": 8},
            "learning_rate": 0.01,
            "steps": 60,
            "batch_size": 8,
            "micro_batch_tokens": 512,
            "gradient_checkpointing": False,
            "checkpoint_every": 10,
        },
        "evaluate": {
            "workers": {"num_workers": 2},
            "decoding": {**short, "max_new_tokens": 48},
            "rows_per_block": 8,
        },
    }


def _rows(kind: str, part: str) -> dict[str, Any]:
    return {"name": kind, "kind": kind, "path": f"s3://bucket/{kind}_{part}.csv", "columns": {"text": "goal"}}


@dataclass(frozen=True)
class World:
    cluster: JobsCluster
    commands: Submitter

    def write(self, name: str) -> str:
        (self.commands.folder / f"{name}.yaml").write_text(yaml.safe_dump(config(name)))
        return f"{name}.yaml"

    def submit(self, name: str) -> Command:
        return self.commands.start("submit", "pipeline", "--config", self.write(name))

    def replace(self, process: str, notice_s: int) -> None:
        """Kill a node that has such a process, and add another one; where there is notice, so long before."""
        until(lambda: bool(self.cluster.nodes_with(process)))
        node = self.cluster.nodes_with(process)[0]
        if notice_s:
            self.cluster.give_notice(node, notice_s)
            self.cluster.add_node()
            time.sleep(notice_s)  # the cloud's
            self.cluster.kill(node)
        else:
            self.cluster.kill(node)
            self.cluster.add_node()


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    """Three nodes; model and prompts are in the bucket."""
    folder = working_directory(tmp_path_factory.mktemp("w"))
    with s3_server() as store, pytest.MonkeyPatch.context() as patch:
        for name, value in store.items():
            patch.setenv(name, value)
        files = fsspec.filesystem("s3")
        files.mkdir("bucket")
        model = tmp_path_factory.mktemp("model")
        save_model(model)
        files.put(f"{model}/", "bucket/model", recursive=True)
        for kind, prompt in (("harmful", refused), ("benign", answered)):
            for part, numbers in (("suite", range(SUITE)), ("train", range(SUITE, SUITE + ROWS))):
                lines = "".join(f"{number},{prompt(number)}\n" for number in numbers)
                files.pipe(f"bucket/{kind}_{part}.csv", f"id,goal\n{lines}".encode())
        with jobs_cluster(CPUS, **store) as cluster:
            cluster.start_head()
            for _ in range(NODES):
                cluster.add_node()
            yield World(cluster, submitter(cluster, folder, tmp_path_factory.mktemp("o")))


@pytest.fixture(scope="module")
def expected(world, tmp_path_factory) -> list[dict[str, Any]]:
    """What a run on one machine measures."""
    alone = tmp_path_factory.mktemp("alone")
    code, printed = world.commands.run("run", "--config", world.write("alone"), f"run.storage={alone}")
    assert code == 0, printed
    found = measured(f"{alone}/alone")
    assert found
    return found


def test_two_who_submit_one_run_follow_the_same_jobs(world, expected):
    begin = time.time()
    print(ended("calm", begin, world.submit("calm"), world.submit("calm")))
    assert measured(f"{RUNS}/calm") == expected


def test_a_node_killed_in_each_stage_costs_time_and_nothing_else(world, expected):
    print(killed_in_each(world))
    assert measured(f"{RUNS}/killed") == expected


def test_spot_nodes_taken_away_in_each_stage_cost_time_and_nothing_else(world, expected):
    begin = time.time()
    follower = world.submit("told")
    for file, process in STRIKES.values():
        wait_for("told", file, follower)
        world.replace(process, NOTICE_S)
    print(ended("told", begin, follower))
    assert measured(f"{RUNS}/told") == expected


def killed_in_each(world: World) -> dict[str, int]:
    """A node killed in each stage, the submitter killed in the first; in the last, cancelled and submitted again."""
    begin = time.time()
    first = world.submit("killed")
    for stage, (file, process) in STRIKES.items():
        wait_for("killed", file, first if stage == "prompts" else None)
        world.replace(process, 0)
        if stage == "prompts":
            first.process.send_signal(signal.SIGKILL)
            first.process.wait()
    rows = STRIKES["evaluate"][0]
    wait_for("killed", rows, None, more_than=len(found("killed", rows)))
    code, printed = world.commands.run("status", f"{RUNS}/killed")
    assert code == 0
    assert "align.export       done" in printed.splitlines(), printed
    assert any(line.startswith("evaluate.generate  running      process ") for line in printed.splitlines()), printed
    code, printed = world.commands.run("cancel", "killed")
    assert code == 0, printed
    assert "ended as STOPPED" in printed
    return ended("killed", begin, world.submit("killed"))


def measured(run: str) -> list[dict[str, Any]]:
    measurements: list[dict[str, Any]] = storage.read_json(f"{run}/evaluate/report.json")["measurements"]
    return measurements


def ended(name: str, begin: float, *followers: Command) -> dict[str, int]:
    """Seconds of each stage, from the end of the one before or `begin`, once all that follow it have ended well."""
    for follower in followers:
        code, printed = follower.end(END_S)
        assert code == 0, printed
    ends = {stage: modified(f"{name}/{stage}/manifest.json") for stage in STAGES}
    begins = [begin, *ends.values()]
    return {stage: round(end - begin) for (stage, end), begin in zip(ends.items(), begins, strict=False)}


def wait_for(name: str, pattern: str, follower: Command | None, more_than: int = 0) -> None:
    """Until the run has more such files; a follower that ends before shows why."""
    wait = until if follower is None else follower.until
    wait(lambda: len(found(name, pattern)) > more_than, END_S)


def found(name: str, pattern: str) -> list[str]:
    """Files of a run."""
    files, path = file_system(f"{RUNS}/{name}")
    return [str(file) for file in files.glob(f"{path}/{pattern}")]


def modified(path: str) -> float:
    """When a file of a run was written, in seconds since the epoch; S3 tells whole ones."""
    files, folder = file_system(RUNS)
    return float(files.modified(f"{folder}/{path}").timestamp())


def test_a_new_head_knows_no_job_which_is_told(world):
    follower = world.submit("headless")
    rows = STRIKES["teacher"][0]
    wait_for("headless", rows, follower)
    world.cluster.replace_head()
    code, printed = follower.end(END_S)
    assert code == 4, printed
    assert printed.splitlines()[-1] == (
        "presafe: job headless-pipeline-1 was lost: the cluster does not know it, as its head was started anew; "
        "submitted again, it goes on"
    )
    for _ in range(NODES):
        world.cluster.add_node()
    before = len(found("headless", rows))
    again = world.submit("headless")
    wait_for("headless", rows, again, more_than=before)
    assert world.commands.run("cancel", "headless")[0] == 0
    again.end()
