"""A private cluster: loopback only, nothing without its token, and no trace of it afterwards."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from open_ports import Intruder, entries, listeners

STARTED = """
import os, sys
from presafe.config import Cluster
from presafe.runtime import connect
connect(Cluster(object_store_gb=0.1))
print(os.environ["RAY_AUTH_TOKEN_PATH"], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def private() -> subprocess.Popen[str]:
    """A process with a cluster like those of the stages, and the path of its token as its first line. Its user had
    exported another cluster's token.
    """
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "0" * 64}
    command = [sys.executable, "-c", STARTED]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_cluster_lets_in_who_has_its_token_and_leaves_nothing(private):
    path = Path(private.stdout.readline().strip())
    with Intruder(private.pid) as intruder:
        intruder.wait_for(["gcs_server", "raylet", "ray::RuntimeEnvAgent"])
    assert intruder.got_in == []
    assert {host for _, host, _ in intruder.seen} == {"127.0.0.1"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    token = path.read_text()
    let_in = {name for name, host, port in intruder.seen if entries(host, port, token)}
    assert {"gcs_server", "raylet", "ray::RuntimeEnvAgent"} <= let_in
    private.communicate()
    assert private.returncode == 0
    assert not path.parent.exists()


@pytest.mark.usefixtures("local_ray")
def test_a_cluster_that_passes_metrics_on_lets_nobody_in_either():
    with Intruder(os.getpid()) as intruder:
        intruder.wait_for(["gcs_server", "raylet", "ray::DashboardAgent"])
    assert intruder.got_in == []
    own = {(host, port) for name, host, port in listeners(os.getpid()) if name.startswith(("ray::", "gcs", "raylet"))}
    assert {host for host, _ in own} == {"127.0.0.1"}
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text()
    with_token = {port for _, port in own if _status(port, {"Authorization": f"Bearer {token}"}) == 404}
    assert [port for port in with_token if _status(port, {}) == 401], "no port is the agent's"


def _status(port: int, headers: dict[str, str]) -> int | None:
    """Of an address that is none; None where no HTTP is spoken."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/none", headers=headers, timeout=5).status_code
    except httpx.HTTPError:
        return None
