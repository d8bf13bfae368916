"""`presafe serve` as a process of its own, for clients that are not of this project (`make test-clients`)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clients.endpoint import (
    BIN,
    FUZZED_NEW_TOKENS,
    FUZZED_PROMPT_TOKENS,
    MAX_NEW_TOKENS,
    MAX_ONGOING,
    MAX_PROMPT_TOKENS,
    Endpoint,
    Facts,
    make_facts,
)
from clients.process import free_port, running


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


@pytest.fixture(scope="module")
def gated(facts: Facts, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    """With the gate on, which refuses in its own words; the parameter is `refusal_field`. Gone as `fuzzed` is."""
    settings = ["gate='on'", f"refusal_field={request.param}"]
    with _serving(facts, settings, tmp_path_factory.mktemp("gated")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def endpoint(facts: Facts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """With the gate off: the model decides by itself."""
    settings = [f"max_new_tokens={MAX_NEW_TOKENS}", f"max_prompt_tokens={MAX_PROMPT_TOKENS}"]
    settings += [f"access.max_ongoing_requests={MAX_ONGOING}"]
    with _serving(facts, settings, tmp_path_factory.mktemp("endpoint")) as endpoint:
        yield endpoint


@contextmanager
def _serving(facts: Facts, settings: list[str], folder: Path) -> Iterator[Endpoint]:
    """One replica, stopped as a supervisor would."""
    url, log = f"http://127.0.0.1:{(port := free_port())}", folder / "log"
    command = [f"{BIN}/presafe", "serve", facts.folder, f"port={port}", *settings]
    with running(command, f"{url}/ready", log, OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1") as process:
        yield Endpoint(url, facts)
    assert process.returncode == 0, f"it did not end in order: {log.read_text()[-2000:]}"
