"""`presafe promote` on a real cluster, through the REST API of its dashboard."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from evaluated_run import GOOD, write_run
from presafe.private_cluster import use_new_token
from tiny_reasoner import TinyExport, export_tiny_reasoner

ROOT = Path(__file__).parents[2]
PRESAFE = [sys.executable, "-c", "from presafe.cli import main; main()", "promote"]
KEPT = """
from fastapi import FastAPI
from ray import serve

api = FastAPI()

@serve.deployment(ray_actor_options={"num_cpus": 0.1})
@serve.ingress(api)
class Kept:
    @api.get("/")
    def hello(self):
        return "still here"

application = Kept.bind()
"""
CLUSTER = """
import sys, time
import ray
from presafe.runtime import LOCAL_ENV
import os
for name, value in LOCAL_ENV.items():
    os.environ.setdefault(name, value)
context = ray.init(
    address="local", num_cpus=2, include_dashboard=True, dashboard_host="127.0.0.1", dashboard_port=int(sys.argv[1]),
    object_store_memory=200_000_000, log_to_driver=False, logging_level="ERROR", _temp_dir=sys.argv[2],
)
print("up", context.dashboard_url, flush=True)
sys.stdin.read()
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def tiny_export(tmp_path_factory: pytest.TempPathFactory) -> TinyExport:
    return export_tiny_reasoner(str(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "kept_application.py").write_text(KEPT)
    return str(folder)


@pytest.fixture(scope="module")
def address(modules: str) -> Iterator[str]:
    """Dashboard of a cluster of its own, in a process of its own: this one may be in the tests' cluster already."""
    temp, port = tempfile.mkdtemp(prefix="ray-"), free_port()
    use_new_token(temp)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{modules}"}
    command = [sys.executable, "-c", CLUSTER, str(port), temp]
    driver = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    assert driver.stdin is not None
    assert any(line.startswith("up ") for line in driver.stdout)
    children = psutil.Process(driver.pid).children(recursive=True)
    yield f"http://127.0.0.1:{port}"
    driver.stdin.close()
    driver.wait(timeout=60)
    psutil.wait_procs(children, timeout=30)
    shutil.rmtree(temp, ignore_errors=True)


def serve_config(folder: Path, *applications: dict[str, object], port: int) -> str:
    config = {"http_options": {"host": "127.0.0.1", "port": port}, "applications": [*applications]}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "config.yaml")


def promote(folder: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run([*PRESAFE, *arguments], cwd=folder, capture_output=True, text=True, timeout=300)
    print(done.stdout, done.stderr)
    return done.returncode, done.stdout + done.stderr


def test_a_run_is_deployed_beside_what_stands_refused_if_it_fails_and_taken_back(
    tmp_path: Path, tiny_export: TinyExport, address: str
) -> None:
    from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

    cluster, port = ServeSubmissionClient(address), free_port()
    url = f"http://127.0.0.1:{port}"
    kept = {"name": "kept", "route_prefix": "/kept", "import_path": "kept_application:application"}
    body = {"http_options": {"host": "127.0.0.1", "port": port}, "applications": [kept]}
    cluster.deploy_applications(body)
    args = {"max_prompt_tokens": 600, "max_new_tokens": 600, "workers": {"num_cpus": 0.5}}
    ours = {"name": "presafe", "route_prefix": "/", "import_path": "serve.app:build", "args": args}
    options = ["--config", serve_config(tmp_path, ours, port=1), "--address", address]

    bad = write_run(tmp_path / "bad", tiny_export.folder, {**GOOD, ("plain", "aligned"): 0.5})
    code, said = promote(tmp_path, bad, *options)
    assert code == 1
    assert "attack_success_rate of plain" in said
    assert set(cluster.get_serve_details()["applications"]) == {"kept"}

    code, said = promote(tmp_path, write_run(tmp_path / "good", tiny_export.folder), *options)
    assert code == 0
    assert "presafe runs at /" in said
    assert httpx.get(f"{url}/v1/models").raise_for_status().json()["data"][0]["id"] == "presafe"
    assert "still here" in httpx.get(f"{url}/kept/").text
    (before,) = tmp_path.glob("before-presafe-*.yaml")  # what stood before ours
    assert str(before) in said

    broken = write_run(tmp_path / "broken", tiny_export.folder)
    (Path(broken) / "model" / "safety_head.safetensors").unlink()
    code, said = promote(tmp_path, broken, *options, "--timeout", "120")
    assert code == 3
    assert "safety_head" in said or "still DEPLOYING" in said

    cluster.deploy_applications(yaml.safe_load(before.read_text()))
    end = time.monotonic() + 60
    while "presafe" in cluster.get_serve_details()["applications"]:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert "still here" in httpx.get(f"{url}/kept/").text
