"""2,000 rows on 4 actors over 2 nodes, through the command line: actors, a node and the driver die by SIGKILL.

The teacher is an endpoint that counts what it is asked, so that a row generated twice is seen. It holds its replies at
each death: the deaths happen in the middle of the work, however fast the machine is.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from finished_stage import finish
from ray.cluster_utils import Cluster

from holding_server import HoldingServer
from presafe import storage
from presafe.config import load_config
from presafe.private_cluster import use_new_token
from presafe.records import Prompt, TeacherAnswer
from presafe.runtime import LOCAL_ENV
from run_directory import save_model

ROWS, BLOCK, ACTORS = 2000, 25, 4


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A head without CPUs and two nodes, each with room for all actors, since the other one will die."""
    for name, value in LOCAL_ENV.items():
        os.environ.setdefault(name, value)
    use_new_token(str(tmp_path))
    health = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}
    head = {"num_cpus": 0, "object_store_memory": 10**8, "_system_config": health}
    started = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        started.add_node(num_cpus=ACTORS + 2, object_store_memory=10**8)
    yield started
    started.shutdown()


def write_run(root: Path, address: str, url: str) -> Path:
    """A config and the output of its stage `prompts`."""
    settings = {
        "run": {"name": "run", "storage": str(root)},
        "cluster": {"address": address},
        "model": {"path": str(root / "base"), "dtype": "float32"},
        "prompts": {"sources": [{"name": "s", "function": "m:f"}], "suites": [{"name": "e", "function": "m:f"}]},
        "teacher": {
            "workers": {"num_workers": ACTORS},
            "engine": {"kind": "http", "base_url": url, "model": "counting", "concurrency": 8},
            "answer": {"max_new_tokens": 24},
            "max_traces": 0,
            "cot_on_decisions": 0,
            "rows_per_block": BLOCK,
        },
    }
    path = root / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    rows = [Prompt(f"p{k}", f"add {k}", "benign", "s", None, None, "classifier", f"p{k}", None) for k in range(ROWS)]
    run = load_config(str(path), []).run_directory
    finish(run, "prompts", lambda folder: {"n": storage.write_rows(f"{folder}/prompts.parquet", rows, Prompt)})
    return path


def teacher(path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from presafe.cli import main; main()", "teacher", "--config", str(path)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1", "OPENAI_API_KEY": "none"})


def actors(node: psutil.Process) -> list[psutil.Process]:
    return [p for p in node.children(recursive=True) if "Generator" in " ".join(p.cmdline())]


def raylets(cluster: Cluster) -> list[psutil.Process]:
    return [psutil.Process(node.all_processes["raylet"][0].process.pid) for node in cluster.worker_nodes]


def kill_actor(cluster: Cluster) -> int:
    busiest = max((actors(raylet) for raylet in raylets(cluster)), key=len)
    busiest[0].send_signal(signal.SIGKILL)
    return 1


def kill_node(cluster: Cluster) -> int:
    """Kill everything on the first node at once; returns how many actors it had."""
    raylet = raylets(cluster)[0]
    lost = len(actors(raylet))
    for process in [raylet, *raylet.children(recursive=True)]:
        process.send_signal(signal.SIGKILL)
    return lost


def test_no_row_is_lost_or_doubled_and_a_death_costs_a_block_an_actor(tmp_path, cluster):
    save_model(tmp_path)
    with HoldingServer() as endpoint:
        path = write_run(tmp_path, cluster.address, endpoint.url)
        driver = teacher(path)
        dead = []

        def strike(at: int, kill: Callable[[], int]) -> None:
            endpoint.hold_at(at)
            while not endpoint.held.wait(0.2):
                assert driver.poll() is None, "the driver ended before its work did"
            before = sum(endpoint.asked.values()) - len(endpoint.asked)
            dead.append((kill(), before))
            endpoint.release()

        strike(300, lambda: kill_actor(cluster))
        strike(700, lambda: kill_actor(cluster))
        strike(1100, lambda: kill_node(cluster))
        strike(1500, lambda: (driver.send_signal(signal.SIGKILL), len(actors(raylets(cluster)[-1])))[1])
        driver.wait()
        while sum(node["Alive"] for node in cluster.global_state.node_table()) != 2:
            time.sleep(0.2)  # a run that starts before the cluster knows of the dead node would place tasks there
        assert not (tmp_path / "run/teacher/manifest.json").exists()
        assert teacher(path).wait() == 0
        again = sum(endpoint.asked.values()) - len(endpoint.asked)

    print("actors dead and rows asked again before each death:", dead, "in the end:", again)
    answers = storage.read_rows(f"{tmp_path}/run/teacher/answers.parquet", TeacherAnswer)
    assert Counter(row.prompt_id for row in answers) == Counter(f"p{k}" for k in range(ROWS)), "every row exactly once"
    assert len(endpoint.asked) == ROWS
    assert again <= BLOCK * sum(actors for actors, _ in dead), "at most one block for each actor that died"
