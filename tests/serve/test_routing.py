"""Sessions over HTTP through Serve's own proxies: a session meets one replica, and its flood does not fill it."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError
from ray import serve
from ray.serve.config import DEFAULT_REQUEST_ROUTER_PATH, RequestRouterConfig

from presafe.config import EndpointSettings
from serve.app import SESSION_ROUTER, build
from serve.deployment.launch import QUIET
from serve.routing import SLACK

REPLICAS, FLOOD, DEADLINE_S = 3, 45, 60.0
CHOOSING = 2 * REPLICAS
"""Requests that one proxy of Ray Serve's finds replicas for at once, each before it knows of the others."""


@dataclass(frozen=True)
class Where:
    """An application of several replicas, each of which says its name; `held` has a file for each request it holds."""

    url: str
    held: Path

    def ask(self, session: str | None = None) -> str:
        return self.told(httpx.get(self.url, headers=headers(session), timeout=DEADLINE_S))

    def told(self, reply: httpx.Response) -> str:
        return reply.raise_for_status().text

    def holding(self) -> Counter[str]:
        """How many requests each replica holds."""
        return Counter(file.name.split(".")[0] for file in self.held.glob("*.held"))


def headers(session: str | None) -> dict[str, str]:
    return {} if session is None else {"X-Session-Id": session}


@serve.deployment(num_replicas=REPLICAS, ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=200)
class Replica:
    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    async def __call__(self, request) -> str:
        name = serve.get_replica_context().replica_id.unique_id
        if number := request.query_params.get("hold"):
            (self._folder / f"{name}.{number}.held").touch()
            while not (self._folder / "go").exists():
                await asyncio.sleep(0.02)
        return name


@pytest.fixture(scope="module")
def where(served, tmp_path_factory) -> Iterator[Where]:
    folder = tmp_path_factory.mktemp("held")
    router = RequestRouterConfig(request_router_class=SESSION_ROUTER)
    application = Replica.options(request_router_config=router).bind(str(folder))
    serve.run(application, name="where", route_prefix="/where", logging_config=QUIET)
    yield Where(f"{served.url}/where", folder)
    serve.delete("where")


def until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_requests_of_a_session_meet_one_replica_and_sessions_are_spread(where):
    homes = {session: {where.ask(session) for _ in range(4)} for session in map(str, range(40))}
    assert {len(home) for home in homes.values()} == {1}
    assert len(set().union(*homes.values())) == REPLICAS


def test_a_flood_of_one_session_leaves_room_on_its_replica(where):
    home = where.ask("flood")
    neighbour = next(session for session in map(str, range(1000)) if where.ask(session) == home)

    async def flood() -> tuple[Counter[str], list[str]]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(headers=headers("flood"), timeout=DEADLINE_S, limits=limits) as client:
            held = [asyncio.create_task(client.get(where.url, params={"hold": n + 1})) for n in range(FLOOD)]
            await asyncio.to_thread(until, lambda: where.holding().total() == FLOOD)
            counts = where.holding()
            others = [await asyncio.to_thread(where.ask) for _ in range(20)]
            await asyncio.to_thread(where.ask, neighbour)  # answered meanwhile, wherever
            (where.held / "go").touch()
            assert [where.told(reply) for reply in await asyncio.gather(*held)].count(home) == counts[home]
            return counts, others

    counts, others = asyncio.run(flood())
    assert max(counts.values()) <= counts[home] + CHOOSING
    assert SLACK / 2 < counts[home] - min(counts.values()) <= SLACK + CHOOSING
    assert len(counts) == REPLICAS
    assert home not in others
    assert where.ask("flood") == where.ask(neighbour) == home, "both come home when it is over"


@pytest.mark.parametrize("routing", ["load", "session"])
def test_the_application_has_the_router_that_its_settings_ask_for(tiny_export, routing):
    settings = {"model": tiny_export.base, "unaligned": True, "engine": "vllm", "routing": routing}
    found = build(settings)._bound_deployment._deployment_config.request_router_config
    assert found.request_router_class == (SESSION_ROUTER if routing == "session" else DEFAULT_REQUEST_ROUTER_PATH)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"engine": "transformers"}, "routing session is for the prefix cache of engine vllm"),
        ({"engine": "vllm", "vllm": {"options": {"enable_prefix_caching": False}}}, "which vllm.options switches off"),
    ],
)
def test_sessions_without_a_cache_are_refused(settings, told):
    with pytest.raises(ValidationError, match=told):
        EndpointSettings.model_validate({"routing": "session", **settings})
    EndpointSettings.model_validate({"routing": "session", "engine": "vllm"})
