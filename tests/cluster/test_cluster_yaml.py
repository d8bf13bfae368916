"""What a cluster gets: a valid cluster.yaml, and a small upload."""

import zipfile
from pathlib import Path

import pytest
import yaml
from jsonschema import ValidationError
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


def test_the_head_runs_nothing_and_every_gpu_pool_has_spot_nodes_and_then_on_demand_ones():
    types = cluster()["available_node_types"]
    head = types.pop(cluster()["head_node_type"])
    assert head["resources"]["CPU"] == 0
    assert "InstanceMarketOptions" not in head["node_config"]
    assert {node["labels"]["presafe-pool"] for node in types.values()} == {"cpu", "teacher", "train", "serve"}
    for pool in ("teacher", "train", "serve"):
        spot, on_demand = types[f"{pool}_spot"], types[f"{pool}_on_demand"]
        assert spot["labels"] == on_demand["labels"] == {"presafe-pool": pool}
        assert spot["resources"] == on_demand["resources"]
        assert spot["resources"]["GPU"] >= 1
        assert spot["priority"] > on_demand["priority"]
        assert spot["node_config"] == on_demand["node_config"] | {"InstanceMarketOptions": {"MarketType": "spot"}}


def test_an_unknown_key_of_a_node_type_is_rejected():
    config = cluster()
    config["available_node_types"]["cpu_spot"]["label"] = {"presafe-pool": "cpu"}
    with pytest.raises(ValidationError, match="label"):
        validate_config(prepare_config(config))


RECIPES = sorted(path.name for path in (ROOT / "configs").glob("[!_]*.yaml") if not path.name.startswith("study"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipes_pools_are_there_and_have_room_for_its_workers(recipe):
    types = cluster()["available_node_types"].values()
    for asked in demands(load_config(str(ROOT / "configs" / recipe), [])):
        pool = asked.placement.pool
        nodes = [node for node in types if pool in (None, node["labels"][POOL_LABEL])]
        room_there = sum(room(node["resources"], asked.placement) * node.get("max_workers", 1) for node in nodes)
        assert room_there >= asked.num_workers, asked


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
