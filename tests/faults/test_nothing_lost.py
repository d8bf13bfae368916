"""2,000 rows on 4 actors over 2 nodes, through the command line: actors, a node and the driver die by SIGKILL.

The teacher is an endpoint that counts what it is asked, so that a row generated twice is seen. It holds its replies at
each death: the deaths happen in the middle of the work, however fast the machine is.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from counted_teacher import driver, write_run
from ray.cluster_utils import Cluster

from holding_server import HoldingServer
from presafe import storage
from presafe.private_cluster import use_new_token
from presafe.records import TeacherAnswer
from presafe.runtime import LOCAL_ENV

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
    with HoldingServer() as endpoint:
        path = write_run(tmp_path, endpoint.url, rows=ROWS, block=BLOCK, actors=ACTORS, address=cluster.address)
        running = driver(path)
        dead = []

        def strike(at: int, kill: Callable[[], int]) -> None:
            endpoint.hold_at(at)
            while not endpoint.held.wait(0.2):
                assert running.poll() is None, "the driver ended before its work did"
            before = sum(endpoint.asked.values()) - len(endpoint.asked)
            dead.append((kill(), before))
            endpoint.release()

        strike(300, lambda: kill_actor(cluster))
        strike(700, lambda: kill_actor(cluster))
        strike(1100, lambda: kill_node(cluster))
        strike(1500, lambda: (running.send_signal(signal.SIGKILL), len(actors(raylets(cluster)[-1])))[1])
        running.wait()
        while sum(node["Alive"] for node in cluster.global_state.node_table()) != 2:
            time.sleep(0.2)  # a run that starts before the cluster knows of the dead node would place tasks there
        assert not (tmp_path / "run/teacher/manifest.json").exists()
        assert driver(path).wait() == 0
        again = sum(endpoint.asked.values()) - len(endpoint.asked)

    print("actors dead and rows asked again before each death:", dead, "in the end:", again)
    answers = storage.read_rows(f"{tmp_path}/run/teacher/answers.parquet", TeacherAnswer)
    assert Counter(row.prompt_id for row in answers) == Counter(f"p{k}" for k in range(ROWS)), "every row exactly once"
    assert len(endpoint.asked) == ROWS
    assert again <= BLOCK * sum(actors for actors, _ in dead), "at most one block for each actor that died"
