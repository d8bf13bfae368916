"""The endpoint under load while replicas are killed, replaced, drained and put to sleep: clients notice nothing."""

import asyncio
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import openai
import psutil
import pytest

from tiny_reasoner import ANSWER, BENIGN, GATE_REFUSAL, HARMFUL, TinyExport, export_tiny_reasoner, user

CLIENTS = 8
DEADLINE_S = 180.0
ARGS = {
    "gate": "on",
    "max_prompt_tokens": 600,
    "max_new_tokens": 400,
    "workers": {"num_workers": 2, "num_cpus": 0.5},
    "drain_s": 60,
}


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> TinyExport:
    return export_tiny_reasoner(str(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    request.getfixturevalue("local_ray")
    from ray import serve

    from serve.deployment.launch import QUIET

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config=QUIET)
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


def deploy(export: TinyExport, **changes: Any) -> None:
    """Deploy, or change what is deployed, and wait until it is."""
    from ray import serve

    from serve.app import build
    from serve.deployment.launch import QUIET

    args = {**ARGS, "model": export.folder, **changes}
    serve.run(build(args), name="presafe", route_prefix="/", logging_config=QUIET)


def replicas() -> list[psutil.Process]:
    processes = psutil.Process().children(recursive=True)
    return [process for process in processes if "ray::ServeReplica:presafe" in _title(process)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it is gone, or about to be
        return ""


def wait_until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not reached():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


class Clients:
    """Clients with openai's default retries, each asking again and again, and what they were told."""

    def __init__(self, url: str) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[Exception] = []
        self._url, self._leaving = url, False

    @contextmanager
    def asking(self) -> Iterator["Clients"]:
        """While they ask; at the end all have had their last answer."""
        import threading

        thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        thread.start()
        try:
            yield self
        finally:
            self._leaving = True
            thread.join()

    def wait_for_more(self, count: int = 3 * CLIENTS) -> None:
        before = self.answers.total()
        wait_until(lambda: self.answers.total() >= before + count)

    async def _all(self) -> None:
        client = openai.AsyncOpenAI(base_url=f"{self._url}/v1", api_key="none", timeout=120)
        async with client:
            await asyncio.gather(*(self._ask(client, HARMFUL if k % 2 else BENIGN) for k in range(CLIENTS)))

    async def _ask(self, client: openai.AsyncOpenAI, prompt: str) -> None:
        while not self._leaving:
            try:
                reply = await client.chat.completions.create(model="presafe", messages=user(prompt), temperature=0)
                self.answers[reply.choices[0].message.content or ""] += 1
            except openai.OpenAIError as error:
                self.failures.append(error)


@pytest.fixture
def clients(url: str) -> Clients:
    return Clients(url)


def test_a_killed_replica_loses_no_request_of_clients_that_retry(export: TinyExport, clients: Clients) -> None:
    deploy(export)
    with clients.asking():
        clients.wait_for_more()
        killed = replicas()[0]
        killed.send_signal(signal.SIGKILL)
        clients.wait_for_more()
        wait_until(lambda: len(replicas()) == 2 and killed not in replicas())
        clients.wait_for_more()
    assert clients.failures == []
    assert set(clients.answers) == {ANSWER, GATE_REFUSAL}


def test_a_rolling_update_and_a_smaller_deployment_lose_no_request(export: TinyExport, clients: Clients) -> None:
    deploy(export)
    before = set(replicas())
    with clients.asking():
        clients.wait_for_more()
        deploy(export, threshold=0.95)  # above the harmful prompt's 0.9: the gate lets it through
        clients.wait_for_more()
        assert before.isdisjoint(replicas())
        assert GATE_REFUSAL in clients.answers
        smaller = {**ARGS["workers"], "num_workers": 1}  # type: ignore[dict-item]
        deploy(export, threshold=0.95, workers=smaller)
        wait_until(lambda: len(replicas()) == 1)
        clients.wait_for_more()
    assert clients.failures == []
    assert len(clients.answers) == 3, "the model's own refusal has come, too"


def test_an_endpoint_sleeps_and_wakes(export: TinyExport, url: str) -> None:
    asleep = {"min_replicas": 0, "max_replicas": 2, "upscale_delay_s": 0, "downscale_delay_s": 1}
    deploy(export, autoscaling=asleep)
    wait_until(lambda: not replicas())
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=DEADLINE_S)
    reply = client.chat.completions.create(model="presafe", messages=user(HARMFUL))
    assert reply.choices[0].message.content == GATE_REFUSAL
    assert httpx.get(f"{url}/ready").status_code == 200
    wait_until(lambda: not replicas())
