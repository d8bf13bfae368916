"""A stage asks for its pool, and its Python: what is told where there is none, on a real cluster of three nodes."""

import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from presafe.private_cluster import use_new_token
from presafe.runtime import LOCAL_ENV

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter of an environment of its own, which sees the packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    [packages] = folder.glob("lib/python*/site-packages")
    import ray

    packages.joinpath("shared.pth").write_text(str(Path(ray.__file__).parents[1]))
    return str(folder / "bin/python")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, python: str) -> Iterator[dict]:
    """What the checks said on a head without CPUs and two nodes, pools a and b."""
    before = dict(os.environ)
    os.environ |= {name: value for name, value in LOCAL_ENV.items() if name not in os.environ}
    use_new_token(str(tmp_path_factory.mktemp("token")))
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 10**8})
    try:
        started.add_node(num_cpus=2, object_store_memory=10**8, labels={"presafe-pool": "a"})
        started.add_node(num_cpus=2, num_gpus=1, object_store_memory=10**8, labels={"presafe-pool": "b"})
        command = [sys.executable, "-m", "placement", started.address, python]
        # From a folder of no project: the nodes get the package from the driver.
        driver = subprocess.run(
            command,
            cwd="/",
            env={**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=300,
        )
        yield json.loads(driver.stdout.splitlines()[-1])
    finally:
        started.shutdown()
        os.environ.clear()
        os.environ |= before


def test_what_fits_its_pool_passes(answers):
    assert answers["fits"] is None
    assert answers["auto"] == 2


@pytest.mark.parametrize("which", ["many", "elsewhere", "no such GPU", "memory"])
def test_what_a_pool_has_no_room_for_is_told_at_once(answers, which):
    assert answers[which].startswith("found a cluster of 3 node(s), 4 CPU and 1 GPU, with room for ")


def test_the_sentence_names_the_pool_and_the_gpu(answers):
    assert "room for 2 worker(s) of 1 CPU in pool a; needed 3 for stage 'teacher'" in answers["many"]
    assert "room for 0 worker(s) of 1 CPU in pool c" in answers["elsewhere"]
    assert "1 GPU (H100) in pool b" in answers["no such GPU"]
    assert "10000 GB of memory" in answers["memory"]


def test_a_busy_pool_is_waited_for_and_then_told(answers):
    assert "no place for 2 worker(s) of 1 CPU in pool a within 0.1 minutes" in answers["busy"]
    assert "room for 2 were it idle" in answers["busy"]


def test_a_worker_that_lacks_a_package_is_a_sentence(answers):
    assert "without no_such_package; needed it for stage 'teacher'" in answers["lacks"]


def test_a_stage_runs_on_the_python_and_in_the_pool_that_it_names(answers, python):
    assert answers["other python"] is None
    pool, executable, greeting, home, package = answers["ran"]
    assert (pool, executable, greeting, home) == ("b", python, "hello", os.environ["HOME"])
    assert package.endswith("presafe/__init__.py")


def test_a_python_that_is_none_is_a_sentence(answers):
    assert "/nowhere/bin/python on node " in answers["not there"]
    assert "which does not run" in answers["not there"]
    assert "which does not run" in answers["without ray"]


def test_a_job_on_gpus_gets_blocks_of_the_size_that_it_asks_for(answers):
    assert answers["blocks"] == [6] * 6 + [32] * 64


def test_the_doctor_finds_what_is_broken_on_the_nodes(answers):
    """A declared GPU that torch does not see, and a storage that takes no file on any of the three nodes."""
    wrong = [line for line in answers["doctor"] if line.startswith("WRONG")]
    assert sum("torch sees 0 of the 1 GPU(s)" in line for line in wrong) == 1
    assert sum("/proc/nowhere fails" in line for line in wrong) == 3
    assert "all-reduce of 2 node(s) by gloo: 4 MB in" in answers["doctor"][-1]
