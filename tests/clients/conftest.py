"""`presafe serve` as a process of its own, for clients that are not of this project (`make test-clients`)."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from clients.endpoint import (
    BIN,
    FUZZED_NEW_TOKENS,
    FUZZED_PROMPT_TOKENS,
    MAX_NEW_TOKENS,
    MAX_ONGOING,
    Endpoint,
    Facts,
    make_facts,
)

START_S, STOP_S = 300.0, 60.0


@pytest.fixture(scope="session")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """The tiny model, exported by the project's own environment; `PRESAFE_TINY` names one that is there already."""
    folder = Path(os.environ.get("PRESAFE_TINY") or tmp_path_factory.mktemp("tiny"))
    return make_facts(folder)


@pytest.fixture(scope="module")
def fuzzed(facts: Facts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """With the gate on, and short limits. Its module comes first, so that it is gone before `endpoint` starts."""
    settings = [f"max_new_tokens={FUZZED_NEW_TOKENS}", f"max_prompt_tokens={FUZZED_PROMPT_TOKENS}"]
    settings += ["gate='on'", "access.max_body_kb=64"]  # without quotes YAML reads `on` as true
    with _serving(facts, settings, tmp_path_factory.mktemp("fuzzed")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def endpoint(facts: Facts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """With the gate off: the model decides by itself."""
    settings = [f"max_new_tokens={MAX_NEW_TOKENS}", "max_prompt_tokens=600"]
    settings += [f"access.max_ongoing_requests={MAX_ONGOING}"]
    with _serving(facts, settings, tmp_path_factory.mktemp("endpoint")) as endpoint:
        yield endpoint


@contextmanager
def _serving(facts: Facts, settings: list[str], folder: Path) -> Iterator[Endpoint]:
    """One replica, stopped as a supervisor would."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = folder / "log"
    command = [f"{BIN}/presafe", "serve", facts.folder, f"port={port}", *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    served = Endpoint(f"http://127.0.0.1:{port}", facts)
    try:
        _wait_until_ready(served, process, log)
        yield served
        assert process.poll() is None, f"it ended by itself: {log.read_text()[-2000:]}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, f"it did not end in order: {log.read_text()[-2000:]}"


def _wait_until_ready(endpoint: Endpoint, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + START_S
    while True:
        assert process.poll() is None, log.read_text()[-4000:]
        assert time.monotonic() < end, f"not ready after {START_S:g} s: {log.read_text()[-4000:]}"
        try:
            if httpx.get(f"{endpoint.url}/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
