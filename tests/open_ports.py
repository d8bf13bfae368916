"""What a process and its descendants listen on, and what another user of the machine gets from it without its token.

    python tests/open_ports.py      reads lines of JSON [host, port]; answers each with a list of what let it in

Run as root, this second process first becomes the user `nobody`.
"""

import http.client
import json
import os
import pwd
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import grpc
import psutil

JOB = json.dumps({"entrypoint": "true"})
HTTP = {
    "GET": ["/api/version", "/api/jobs/", "/api/serve/applications/", "/nodes", "/logs", "/get_runtime_env"],
    "POST": ["/api/job_agent/jobs/", "/api/jobs/", "/get_or_create_runtime_env"],
}
"""Addresses of Ray's dashboard, job agent and runtime environment agent."""
GRPC = [
    "/ray.rpc.NodeInfoGcsService/CheckAlive",
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.JobInfoGcsService/GetAllJobInfo",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.CoreWorkerService/PushTask",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "/ray.rpc.ReporterService/GetTraceback",
    "/ray.rpc.RayletDriver/ClusterInfo",
    "/ray.serve.ASGIService/HandleRequest",
]
"""Of GCS, raylet, object manager, workers, agent, Ray's client server and Ray Serve's replicas."""
CLOSED = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""No token, no such service, no gRPC at all, and a process that is too busy or gone."""
WAIT_S = 20.0
TRIED_WITHIN_S = 300.0
"""A busy process answers each question late, and all that listen are asked one after the other."""
ATTEMPTS = 10


def own_addresses() -> list[str]:
    """The machine's addresses but loopback."""
    found = (address for addresses in psutil.net_if_addrs().values() for address in addresses)
    texts = [a.address.partition("%")[0] for a in found if a.family in (socket.AF_INET, socket.AF_INET6)]
    return [text for text in texts if not text.startswith("127.") and text != "::1" and not text.startswith("fe80")]


def listeners(root: int) -> set[tuple[str, str, int]]:
    """Name, host and port of everything that the tree of processes below `root` listens on."""
    found = set()
    try:
        processes = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    except psutil.NoSuchProcess:
        return found
    for process in processes:
        try:
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    host = connection.laddr.ip.removeprefix("::ffff:")
                    found.add((process.name(), host, connection.laddr.port))
        except psutil.NoSuchProcess:
            continue
    return found


def entries(host: str, port: int, token: str | None = None) -> list[str]:
    """Ray's services at HOST:PORT that do as they are told, by who has `token` or none."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return [*_http_entries(host, port, headers), *_grpc_entries(host, port, token)]


def _http_entries(host: str, port: int, headers: dict[str, str]) -> list[str]:
    open_paths = []
    for method, paths in HTTP.items():
        for path in paths:
            connection = http.client.HTTPConnection(host, port, timeout=WAIT_S)
            try:
                connection.request(method, path, JOB, {"Content-Type": "application/json", **headers})
                response = connection.getresponse()
                metrics = response.getheader("Content-Type", "").startswith("text/plain; version=")
                if response.status not in (401, 403, 404, 405) and not metrics:  # Prometheus' exporter shows no more
                    open_paths.append(path)
            except (http.client.HTTPException, OSError):  # refused, or it speaks something else
                return open_paths
            finally:
                connection.close()
    return open_paths


def _grpc_entries(host: str, port: int, token: str | None) -> list[str]:
    metadata = [("authorization", f"Bearer {token}")] if token else []
    open_methods = []
    with grpc.insecure_channel(f"[{host}]:{port}" if ":" in host else f"{host}:{port}") as channel:
        for method in GRPC:
            code = _answer(channel, method, metadata)
            if code == grpc.StatusCode.UNAVAILABLE:
                break  # the rest would wait for the same
            if code not in CLOSED:
                open_methods.append(f"{method} {code.name}")
    return open_methods


def _answer(channel: grpc.Channel, method: str, metadata: list[tuple[str, str]]) -> grpc.StatusCode:
    """A process that ends cancels the calls that it has, whatever they are: asked again, it is gone, or it lives."""
    for _ in range(ATTEMPTS):
        try:
            channel.unary_unary(method)(b"", metadata=metadata, timeout=WAIT_S)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.CANCELLED:
                return error.code()
        else:
            return grpc.StatusCode.OK
        time.sleep(1)
    return grpc.StatusCode.CANCELLED


class Intruder:
    """Another user of the machine, without the token, who tries what a tree of processes listens on, as it comes."""

    def __init__(self, root: int) -> None:
        self.seen: set[tuple[str, str, int]] = set()
        self.got_in: list[str] = []
        """`NAME HOST:PORT SERVICE` of each door that was open."""
        self._root, self._over = root, threading.Event()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._process.communicate()

    def wait_for(self, processes: Sequence[str]) -> None:
        """Until it has tried something of each of these, by how their names begin."""
        end = time.monotonic() + TRIED_WITHIN_S
        while missing := [name for name in processes if not any(seen.startswith(name) for seen, _, _ in self.seen)]:
            assert self._thread.is_alive()
            assert time.monotonic() < end, f"{missing} do not listen, only {sorted(self.seen)}"
            time.sleep(0.1)

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            for name, host, port in listeners(self._root) - self.seen:
                for target in ("127.0.0.1", *own_addresses()):
                    self.got_in += [f"{name} {target}:{port} {service}" for service in self._try(target, port)]
                self.seen.add((name, host, port))

    def _try(self, host: str, port: int) -> list[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([host, port]) + "\n")
        self._process.stdin.flush()
        answer: list[str] = json.loads(self._process.stdout.readline())
        return answer


def _become_nobody() -> None:
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)


if __name__ == "__main__":
    entries("localhost", 1)  # what it imports, nobody may not read
    _become_nobody()
    for line in sys.stdin:
        print(json.dumps(entries(*json.loads(line))), flush=True)
