"""A teacher job makes the pool that it names come and go: Ray's autoscaler, the node types of cluster.yaml.

GPUs are declared resources, nodes are raylets of this machine. The teacher is an endpoint.
"""

import subprocess
import time
from pathlib import Path

import pytest
import ray
import yaml
from autoscaled_cluster import alive, autoscaled, node_types, until
from counted_teacher import driver, write_run

from holding_server import HoldingServer
from presafe import storage
from presafe.records import TeacherAnswer

ROWS, BLOCK, NODES, IDLE_S = 240, 20, 3, 10
CLUSTER = Path(__file__).parents[2] / "cluster.yaml"


def pools() -> list[str]:
    return [node["Labels"].get("presafe-pool", "") for node in alive()]


@pytest.mark.parametrize("actors", ["auto", NODES])
def test_a_pool_comes_when_it_is_asked_for_and_goes_again_and_no_other_pool_is_touched(tmp_path, actors):
    types = {name: node for name, node in node_types(CLUSTER, NODES).items() if "on_demand" not in name}
    with HoldingServer() as endpoint, autoscaled(types, IDLE_S) as address:
        path = write_run(tmp_path / "run", endpoint.url, rows=ROWS, block=BLOCK, address=address)
        pool(path, num_workers=actors, num_gpus=1, pool="teacher")
        ray.init(address=address, log_to_driver=False)
        endpoint.hold_at(1)
        begin = time.monotonic()
        running = driver(path)
        seconds = {"first node": until(lambda: "teacher" in pools(), 120)}
        until(endpoint.held.is_set, 120)
        seconds["first row asked"] = time.monotonic() - begin
        until(lambda: pools().count("teacher") == NODES, 120)
        seconds["all nodes"] = time.monotonic() - begin
        assert set(pools()) <= {"teacher", "cpu"}
        endpoint.release()
        assert running.wait(timeout=300) == 0
        seconds["done"] = time.monotonic() - begin
        seconds["shrunk after"] = until(lambda: "teacher" not in pools(), 60)
        ray.shutdown()
    print({name: round(value, 1) for name, value in seconds.items()})
    rows = storage.read_rows(str(tmp_path / "run/run/teacher/answers.parquet"), TeacherAnswer)
    assert len({row.prompt_id for row in rows}) == len(rows) == ROWS


@pytest.mark.parametrize(("field", "value"), [("pool", "nowhere"), ("num_gpus", 64), ("accelerator_type", "H100")])
def test_what_no_node_type_has_is_told_rather_than_waited_for(tmp_path, field, value):
    types = {name: node for name, node in node_types(CLUSTER, NODES).items() if "on_demand" not in name}
    with autoscaled(types, IDLE_S) as address:
        path = write_run(tmp_path / "run", "http://127.0.0.1:9/v1", rows=ROWS, block=BLOCK, address=address)
        pool(path, **{"num_workers": "auto", "num_gpus": 1, "pool": "teacher", field: value})
        running = driver(path, stderr=subprocess.PIPE)
        _, told = running.communicate(timeout=240)
    assert running.returncode == 2
    assert "presafe: found an autoscaler that has no nodes for 1 worker(s) of 1 CPU" in told


def pool(path: Path, **workers: object) -> None:
    content = yaml.safe_load(path.read_text())
    content["teacher"]["workers"] = workers
    path.write_text(yaml.safe_dump(content))
