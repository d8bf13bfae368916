"""`presafe serve` on a cluster where Ray Serve has another application already: it comes beside it, and goes alone."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serve_process import COMMAND, starting
from tiny_reasoner import TinyExport, user

CLUSTER = """
import sys
import ray
from ray import serve

@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Other:
    async def __call__(self, _):
        return "another application"

ray.init("local", num_cpus=4, object_store_memory=200_000_000, include_dashboard=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
serve.run(Other.bind(), name="other", route_prefix="/other")
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def other() -> Iterator[int]:
    """A cluster, which processes join that are started from now on, with another application; the port of Serve."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            environment.delenv(name)
        environment.setenv("RAY_AUTH_MODE", "token")
        environment.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        command = [sys.executable, "-c", CLUSTER, str(port)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as cluster:
            assert cluster.stdout is not None
            address = cluster.stdout.readline().strip()
            assert address, "the cluster has not started"
            environment.setenv("RAY_ADDRESS", address)
            yield port
            cluster.communicate()  # the end of its standard input ends it


def test_it_serves_behind_the_same_proxies_and_leaves_them_to_the_others(
    other: int, tiny_export: TinyExport, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{other}"
    with starting(tmp_path, tiny_export.folder, f"port={other}", "workers.num_cpus=0.5") as served:
        served.wait_until(lambda: f"at {url}/v1" in served.output)
        body = {"model": "presafe", "messages": user("plan a walk"), "max_tokens": 4}
        assert httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).status_code == 200
        again = _refused(tiny_export, f"port={other}")
        assert re.fullmatch(r"presafe: found an application 'presafe' on this cluster already; .*", again)
        served.process.send_signal(signal.SIGTERM)
        assert served.ended() == 0
    assert httpx.get(f"{url}/v1/models").status_code == 404
    assert httpx.get(f"{url}/other").text == "another application"


def test_another_port_than_that_of_the_proxies_is_refused(other: int, tiny_export: TinyExport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = _refused(tiny_export, f"port={port}")
    assert re.fullmatch(rf"presafe: found port={port}, and Ray Serve at port {other} .*serve\.port to {other}.*", told)


def _refused(export: TinyExport, *settings: str) -> str:
    """What it says where it ends with code 2."""
    command = [*COMMAND, export.folder, *settings]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    return ended.stderr.strip().splitlines()[-1]
