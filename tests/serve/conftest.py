"""A tiny exported model, in this process and behind a real endpoint with the gate off and on."""

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest

from presafe.engines.exported import LoadedModel, load_exported
from tiny_reasoner import TinyExport, export_tiny_reasoner

MAX_PROMPT_TOKENS, MAX_NEW_TOKENS = 600, 8000
DEADLINE_S = 60.0


@dataclass(frozen=True)
class Served:
    """Three applications of one model: `url` has the gate off, `gated_url` has it on, `keyed_url` asks for a key."""

    url: str
    gated_url: str
    keyed_url: str
    key_file: str
    audit_folder: str
    """Decision log of `keyed_url`."""

    def client(self, *, gated: bool = False) -> openai.OpenAI:
        url = self.gated_url if gated else self.url
        return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)

    def health(self) -> dict[str, Any]:
        """Of the ungated application's only replica."""
        body: dict[str, Any] = httpx.get(f"{self.url}/health").raise_for_status().json()
        return body

    def wait_until(self, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first health that is as it should be."""
        end = time.monotonic() + DEADLINE_S
        while not reached(health := self.health()):
            assert time.monotonic() < end, f"still {health}"
            time.sleep(0.02)
        return health

    def wait_until_known(self, key: str) -> None:
        """A file of keys is read again within a second or so."""
        end = time.monotonic() + DEADLINE_S
        while True:
            try:
                openai.OpenAI(base_url=f"{self.keyed_url}/v1", api_key=key, max_retries=0, timeout=60).models.list()
                return
            except openai.AuthenticationError:
                assert time.monotonic() < end
                time.sleep(0.1)


@pytest.fixture(scope="session")
def tiny_export(tmp_path_factory: pytest.TempPathFactory) -> TinyExport:
    return export_tiny_reasoner(str(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="session")
def loaded(tiny_export: TinyExport) -> LoadedModel:
    return load_exported(tiny_export.folder)


@pytest.fixture(scope="session")
def served(
    request: pytest.FixtureRequest, tiny_export: TinyExport, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Launched as the command line does it, and two more applications behind the same proxy."""
    request.getfixturevalue("local_ray")
    from ray import serve

    from serve.app import build
    from serve.arguments import ServeArgs
    from serve.deployment.launch import QUIET, launch
    from serve.operations.key_command import issue_key

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    args = {
        "model": tiny_export.folder,
        "max_prompt_tokens": MAX_PROMPT_TOKENS,
        "max_new_tokens": MAX_NEW_TOKENS,
        "workers": {"num_cpus": 0.5},
        "access": {"max_ongoing_requests": 16, "max_body_kb": 64},
    }
    launch(ServeArgs.model_validate(args), "127.0.0.1", port)
    serve.run(build({**args, "gate": "on"}), name="gated", route_prefix="/gated", logging_config=QUIET)
    folder = tmp_path_factory.mktemp("access")
    key_file, audit_folder = str(folder / "keys.yaml"), str(folder / "audit")
    issue_key(key_file, "nobody")  # a key file has one key at least
    keyed = {"access": {"keys": key_file}, "audit": {"folder": audit_folder}}
    serve.run(build({**args, "gate": "shadow", **keyed}), name="keyed", route_prefix="/keyed", logging_config=QUIET)
    url = f"http://127.0.0.1:{port}"
    yield Served(url, f"{url}/gated", f"{url}/keyed", key_file, audit_folder)
    serve.shutdown()
