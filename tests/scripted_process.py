"""The scripted endpoint as a process of its own, and what it was asked."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

import scripted_endpoint
from presafe.config import HttpSettings
from presafe.engines.http_engine import HttpEngine


@dataclass(frozen=True)
class Endpoint:
    """The running server; prompts are what it shall do."""

    url: str

    def engine(self, num_workers: int = 1, **settings: Any) -> HttpEngine:
        values = {"kind": "http", "base_url": self.url, "model": "scripted", "api_key_env": "SCRIPTED_KEY", **settings}
        return HttpEngine(HttpSettings.model_validate(values), num_workers)

    def requests(self, prompt: str | None = None) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = httpx.get(f"{self.url}/log").json()
        return [entry for entry in entries if prompt in (None, entry["body"]["messages"][0]["content"])]

    def wait_until(self, reached: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not reached():
            assert time.monotonic() < end
            time.sleep(0.02)


@contextmanager
def started() -> Iterator[tuple[Endpoint, subprocess.Popen]]:
    port = free_port()
    process = subprocess.Popen([sys.executable, scripted_endpoint.__file__, str(port)])
    running = Endpoint(f"http://127.0.0.1:{port}/v1")
    try:
        running.wait_until(lambda: listens(port))
        yield running, process
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
