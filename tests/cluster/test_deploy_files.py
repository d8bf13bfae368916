"""The deployment files, offline: valid under the schemas of those who read them, and alike in what all must have."""

import copy
import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.serve.schema import ServeDeploySchema

from presafe.runtime import SERVE_ENV

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERAY = DEPLOY / "kuberay"
SCHEMAS = ROOT / "tests" / "data" / "kuberay" / "schemas.json.gz"
CLUSTERS = [ROOT / "cluster.yaml", DEPLOY / "gcp-cluster.yaml"]
MANIFESTS = sorted(KUBERAY.glob("*.yaml"))
SLURM = DEPLOY / "slurm" / "presafe.sbatch"
SKYPILOT = DEPLOY / "skypilot.yaml"
POOLS = {"cpu", "teacher", "train", "serve"}
SKYPILOT_KEYS = {
    "name",
    "num_nodes",
    "workdir",
    "resources",
    "envs",
    "secrets",
    "setup",
    "run",
    "file_mounts",
    "config",
}
SKYPILOT_RESOURCES = {"accelerators", "image_id", "disk_size", "any_of", "use_spot", "infra", "cpus", "memory", "ports"}
SHELL = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def closed(schema: Any) -> Any:
    """A structural schema under which a key that it does not name is an error."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    inner = {key: closed(value) for key, value in schema.items()}
    kept = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not kept:
        inner.setdefault("additionalProperties", False)
    return inner


@pytest.fixture(scope="module")
def schemas() -> dict[str, Draft202012Validator]:
    kinds = json.loads(gzip.decompress(SCHEMAS.read_bytes()))
    for kind in ("RayCluster", "RayJob", "RayService"):
        kinds[kind]["properties"]["metadata"] = kinds["NetworkPolicy"]["properties"]["metadata"]
    return {kind: Draft202012Validator(closed(schema)) for kind, schema in kinds.items()}


def unknown(given: dict, schema: dict) -> set[str]:
    """Keys of a Serve config, of its HTTP options and its applications that Ray's schema drops."""
    found = set(given) - set(schema) | set(given["http_options"]) - set(schema["http_options"])
    for mine, rays in zip(given["applications"], schema["applications"], strict=True):
        found |= set(mine) - set(rays)
    return found


def ray_spec(manifest: dict) -> dict:
    """Spec of the Ray cluster that a manifest asks for."""
    spec = manifest["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def objects(value: Any) -> list[dict]:
    if isinstance(value, list):
        return [found for item in value for found in objects(item)]
    if not isinstance(value, dict):
        return []
    return [value, *(found for item in value.values() for found in objects(item))]


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.name)
def test_a_cluster_file_is_valid_and_an_unknown_key_is_not(path):
    validate_config(prepare_config(read(path)))
    for place in ("", "head", "train_spot"):
        wrong = read(path)
        (wrong["available_node_types"][place] if place else wrong)["min_worker"] = 1
        with pytest.raises(Exception, match="min_worker"):
            validate_config(prepare_config(wrong))


def test_the_node_type_of_efa_is_valid_in_cluster_yaml():
    cluster = read(ROOT / "cluster.yaml")
    ((name, node),) = read(DEPLOY / "aws-train-efa.yaml").items()
    cluster["available_node_types"][name] = node
    validate_config(prepare_config(cluster))
    assert all(card["InterfaceType"] == "efa" for card in node["node_config"]["NetworkInterfaces"])
    assert "GroupName" in node["node_config"]["Placement"]
    assert node["labels"] == {"presafe-pool": "train"}


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.name)
def test_every_pool_has_spot_nodes_first_and_on_demand_ones_behind(path):
    cluster = read(path)
    types = cluster["available_node_types"]
    head = types.pop(cluster["head_node_type"])
    assert head["resources"]["CPU"] == 0
    market = {True: {}, False: {}}
    for node in [head, *types.values()]:
        spot = "InstanceMarketOptions" in node["node_config"] or node["node_config"].get("scheduling", {}).get(
            "preemptible", False
        )
        market[spot][node["labels"]["presafe-pool"]] = node.get("priority", 0)
    assert market[True].keys() == POOLS
    assert market[False].keys() == POOLS | {"head"}
    assert all(market[True][pool] > market[False][pool] for pool in POOLS)
    assert all(node["idle_timeout_s"] >= 900 for node in types.values())
    for node in types.values():
        assert (node["resources"].get("GPU", 0) > 0) == (node["labels"]["presafe-pool"] != "cpu")


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.name)
def test_a_nodes_start_installs_nothing_and_its_dashboard_is_closed(path):
    cluster = read(path)
    commands = "\n".join(cluster["setup_commands"] + cluster["initialization_commands"])
    assert "install" not in commands
    assert any("--dashboard-host=127.0.0.1" in command for command in cluster["head_start_ray_commands"])


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_is_valid_and_an_unknown_key_is_not(path, schemas):
    for manifest in yaml.safe_load_all(path.read_text()):
        schemas[manifest["kind"]].validate(manifest)
        wrong = copy.deepcopy(manifest)
        wrong.get("spec", wrong["metadata"])["minReplica"] = 1
        with pytest.raises(ValidationError, match="minReplica"):
            schemas[manifest["kind"]].validate(wrong)
        if manifest["apiVersion"].startswith("ray.io/"):
            wrong = copy.deepcopy(manifest)
            ray_spec(wrong)["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["imag"] = "other"
            with pytest.raises(ValidationError, match="imag"):
                schemas[manifest["kind"]].validate(wrong)


@pytest.mark.parametrize(
    ("name", "pools"),
    [("raycluster", POOLS), ("rayjob", POOLS - {"serve"}), ("rayservice", {"cpu", "serve"})],
)
def test_a_manifests_groups_are_the_pools_and_its_secrets_are_references(name, pools):
    manifest = read(KUBERAY / f"{name}.yaml")
    spec = ray_spec(manifest)
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert {group["labels"]["presafe-pool"] for group in spec["workerGroupSpecs"]} == pools
    for pool in pools:
        spot, on_demand = (group for group in spec["workerGroupSpecs"] if group["labels"]["presafe-pool"] == pool)
        assert spot["priority"] > on_demand["priority"]
    variables = [found for found in objects(manifest) if "TOKEN" in str(found.get("name"))]
    assert variables
    assert all("secretKeyRef" in variable["valueFrom"] for variable in variables)


def test_the_serve_config_is_valid_under_rays_schema_and_an_unknown_key_is_not():
    config = read(ROOT / "serve" / "config.yaml")
    assert not unknown(config, ServeDeploySchema.model_validate(config).model_dump())
    config["http_options"]["prot"] = 1
    config["applications"][0]["import_paths"] = "serve.app:build"
    assert unknown(config, ServeDeploySchema.model_validate(config).model_dump()) == {"import_paths", "prot"}


def test_the_ray_service_serves_the_very_serve_config():
    assert read(KUBERAY / "rayservice.yaml")["spec"]["serveConfigV2"] == (ROOT / "serve" / "config.yaml").read_text()


def test_the_scripts_are_clean_under_bash_and_shellcheck():
    for script in (SLURM, DEPLOY / "environment.sh"):
        subprocess.run(["bash", "-n", script], check=True)
        subprocess.run(["shellcheck", script], check=True, env=SHELL)


def test_the_image_is_clean_under_hadolint():
    subprocess.run(["hadolint", "--failure-threshold", "info", DEPLOY / "Dockerfile"], check=True, env=SHELL)


def test_the_image_has_its_targets_is_pinned_and_runs_without_root():
    text = (DEPLOY / "Dockerfile").read_text()
    stages = dict(re.findall(r"^FROM (\S+) AS (\S+)$", text, flags=re.MULTILINE))
    assert {"cpu", "gpu"} <= set(stages.values())
    assert re.findall(r"^USER (\S+)", text, flags=re.MULTILINE)[-1] not in {"root", "0"}
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    assert pinned
    assert set(re.findall(r"rayproject/ray:([\d.]+)-py311-c", text)) == {pinned[1]}
    for copied in re.findall(r"^COPY (?:--chown=1000 )?(.+) \S+$", text, flags=re.MULTILINE):
        assert all((ROOT / name).exists() for name in copied.split()), copied


def test_skypilots_file_has_documented_keys():
    task = read(SKYPILOT)
    assert task.keys() <= SKYPILOT_KEYS
    assert task["resources"].keys() <= SKYPILOT_RESOURCES
    assert not any(task["secrets"].values())


@pytest.mark.parametrize(
    "path",
    [*CLUSTERS, SLURM, SKYPILOT, *(path for path in MANIFESTS if path.stem.startswith("ray"))],
    ids=lambda path: path.name,
)
def test_every_deployment_asks_for_a_token_and_has_the_environment_of_serves_proxies(path):
    text = path.read_text()
    if path in MANIFESTS:
        assert ray_spec(read(path))["authOptions"]["mode"] == "token"
    else:
        assert re.search(r"RAY_AUTH_MODE(=|: )token\b", text)
    for name, value in SERVE_ENV.items():
        assert re.search(rf'{name}(=|: |, value: "){re.escape(value)}', text)


@pytest.mark.parametrize("path", [*CLUSTERS, *MANIFESTS, SLURM, SKYPILOT], ids=lambda path: path.name)
def test_every_header_says_the_cost_and_what_was_not_run(path):
    header = " ".join(line.strip("# ") for line in path.read_text().splitlines() if line.startswith("# "))
    assert re.search(r"dollars an hour|costs nothing", header, flags=re.IGNORECASE)
    assert re.search(r"never (run|applied|launched)", header)
