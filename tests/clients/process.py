"""A server as a process of its own, from when it is ready until it has ended."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

START_S, STOP_S = 300.0, 60.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


@contextmanager
def running(command: list[str], ready: str, log: Path, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `command` once the address `ready` says 200, and end it by SIGTERM."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **environment})
    try:
        _wait_until_ready(ready, process, log)
        yield process
        assert process.poll() is None, f"it ended by itself: {log.read_text()[-2000:]}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def _wait_until_ready(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + START_S
    while True:
        assert process.poll() is None, log.read_text()[-4000:]
        assert time.monotonic() < end, f"not ready after {START_S:g} s: {log.read_text()[-4000:]}"
        try:
            if httpx.get(address).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
