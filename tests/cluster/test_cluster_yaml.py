"""What a cluster gets: a valid cluster.yaml, and a small upload."""

import re
import zipfile
from pathlib import Path

import jsonschema
import pytest
import ray
import yaml
from ray._private.runtime_env.packaging import create_package
from ray.autoscaler._private.util import prepare_config, validate_config

from presafe.cluster.demand import demands, room
from presafe.cluster.options import POOL_LABEL
from presafe.config import load_config
from presafe.runtime import SERVE_ENV

ROOT = Path(__file__).parents[2]


def cluster() -> dict:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def test_cluster_yaml_is_valid_under_rays_own_schema():
    validate_config(prepare_config(cluster()))


def test_an_unknown_key_is_refused():
    wrong = cluster()
    wrong["available_node_types"]["cpu"]["lables"] = {}
    with pytest.raises(jsonschema.ValidationError, match="lables"):
        validate_config(prepare_config(wrong))


def test_the_head_runs_nothing_and_every_pool_of_gpus_has_on_demand_nodes_behind_its_spot_ones():
    types = cluster()["available_node_types"]
    assert types[cluster()["head_node_type"]]["resources"]["CPU"] == 0
    pools: dict[str, dict[bool, int]] = {}
    for node in types.values():
        if node["resources"].get("GPU"):
            spot = "InstanceMarketOptions" in node["node_config"]
            pools.setdefault(node["labels"][POOL_LABEL], {})[spot] = node.get("priority", 0)
    assert pools.keys() == {"teacher", "train", "serve"}
    assert all(priority[True] > priority[False] for priority in pools.values())


@pytest.mark.parametrize("recipe", sorted(path.name for path in (ROOT / "configs").glob("*.yaml")))
def test_a_recipes_pools_are_there_and_have_room_for_its_workers(recipe):
    if recipe.startswith("_"):
        return
    types = cluster()["available_node_types"].values()
    for asked in demands(load_config(str(ROOT / "configs" / recipe), [])):
        pool = asked.placement.pool
        nodes = [node for node in types if pool in (None, node.get("labels", {}).get(POOL_LABEL))]
        room_there = sum(room(node["resources"], asked.placement) * node.get("max_workers", 1) for node in nodes)
        assert room_there >= asked.num_workers, asked


def test_the_image_has_both_environments_pinned_and_its_processes_are_not_roots():
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    assert [re.match(r"rayproject/ray:(\S+)-py311-\S+ AS (\w+)", stage).groups() for stage in stages] == [
        (ray.__version__, "cpu"),
        (ray.__version__, "gpu"),
    ]
    for stage in stages:
        assert re.findall(r"^USER (\w+)", stage, flags=re.MULTILINE)[-1] == "ray"
        assert "--constraint constraints.txt" in stage
        assert all(f"{name}={value}" in stage for name, value in {**SERVE_ENV, "RAY_AUTH_MODE": "token"}.items())
    real = load_config(str(ROOT / "configs" / "r1-qwen-14b.yaml"), [])
    python = real.teacher.workers.environment.python
    assert python.removesuffix("/bin/python") in stages[1]


def test_every_node_has_the_environment_of_serves_proxies():
    options = cluster()["docker"]["run_options"]
    assert {f"--env {name}={value}" for name, value in SERVE_ENV.items()} <= set(options)


def test_every_node_asks_for_the_token_that_the_user_has():
    assert "--env RAY_AUTH_MODE=token" in cluster()["docker"]["run_options"]
    assert cluster()["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"


def test_a_job_upload_is_small_and_holds_what_a_job_needs(tmp_path):
    package = tmp_path / "package.zip"
    create_package(str(ROOT), package, include_gitignore=True)
    names = set(zipfile.ZipFile(package).namelist())
    assert {"presafe/cli/run.py", "jobs/teacher.py", "serve/app.py", "configs/demo.yaml"} <= names
    assert not {name.split("/")[0] for name in names} & {".venv", ".git", "runs", "tests"}
    assert package.stat().st_size < 2_000_000
