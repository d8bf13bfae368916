"""Of benchmarks/scale.py: what Ray Serve's own processes spend on a request and on a chunk, by the number of replicas.

Replicas are simulated: they stream texts at a fixed pace and compute nothing. The proxy has the middlewares of
serve/proxy.py, as it has in front of a model.
"""

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import psutil
from ray import serve as ray_serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from benchmarks.ratio import Metric
from benchmarks.scale_storage import figure
from presafe.config import Cluster
from presafe.runtime import connect
from serve.operations.exposition import merge

REPLICAS = (1, 4, 16)
PORT = 8899
CHUNKS, PACE_S = 64, 0.1
"""Of a stream: ten chunks a second, so that the processes are never saturated."""
STREAMS, PLAIN, AT_ONCE = 128, 512, 32
"""Requests of each kind, and how many are under way."""
IDLE_S = 15.0
NODES, HISTOGRAMS = (1, 10, 100, 1000), 8
KINDS = {"ray::ProxyActor": "proxy", "ray::ServeReplica": "replicas", "ray::ServeController": "controller"}
"""By the beginning of a process's title."""


def scrape() -> list[Metric]:
    """Seconds that `GET /metrics` keeps the replica busy which answers, by the number of nodes with a replica each."""
    metrics = []
    for nodes in NODES:
        texts = [_metrics_of(node) for node in range(nodes)]
        begin = time.process_time()
        merge(texts)
        metrics.append(figure(f"{nodes} nodes: CPU of /metrics, s/scrape", round(time.process_time() - begin, 3)))
    return metrics


def _metrics_of(node: int) -> str:
    """About as many lines as a replica's metrics have."""
    tags = f'application="presafe",deployment="Endpoint",replica="{node:08x}"'
    return "".join(
        f"# TYPE ray_presafe_seconds_{histogram} histogram\n"
        + "".join(f'ray_presafe_seconds_{histogram}_bucket{{{tags},le="{edge}.0"}} 12.0\n' for edge in range(17))
        for histogram in range(HISTOGRAMS)
    )


async def answer(request: Request) -> StreamingResponse:
    return StreamingResponse(_chunks(int(request.query_params["chunks"])), media_type="text/event-stream")


async def _chunks(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        if number:
            await asyncio.sleep(PACE_S)
        yield b'data: {"choices": [{"index": 0, "delta": {"content": "kite"}}]}\n\n'


@ray_serve.deployment
@ray_serve.ingress(Starlette(routes=[Route("/", answer)]))
class Trivial:
    """A replica without a model."""


def endpoint() -> list[Metric]:
    """CPU of proxy, replicas and controller: a streamed chunk, a plain request, and while nothing is asked."""
    connect(Cluster(address="local", local_cpus=64), metrics=True)
    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
    ray_serve.start(http_options=HTTPOptions(host="127.0.0.1", port=PORT), logging_config=quiet)
    metrics = []
    for number in REPLICAS:
        options = {"num_cpus": 0.01}
        application = Trivial.options(num_replicas=number, max_ongoing_requests=256, ray_actor_options=options).bind()
        ray_serve.run(application, name="trivial", route_prefix="/", logging_config=quiet)
        processes = _processes()
        assert len(processes["replicas"]) == number, processes
        asyncio.run(_load(AT_ONCE, 2))  # routers and connections warm up
        loads = {
            "chunk": (STREAMS * CHUNKS, lambda: asyncio.run(_load(STREAMS, CHUNKS))),
            "request": (PLAIN, lambda: asyncio.run(_load(PLAIN, 1))),
            "second of quiet": (IDLE_S, lambda: time.sleep(IDLE_S)),
        }
        for what, (count, work) in loads.items():
            before = _cpu_seconds(processes)
            work()
            for kind, seconds in _cpu_seconds(processes).items():
                each = 1000 * (seconds - before[kind]) / count
                metrics.append(figure(f"{number} replica(s), {kind}: CPU, ms/{what}", round(each, 3)))
    ray_serve.shutdown()
    return metrics


def _cpu_seconds(processes: dict[str, list[psutil.Process]]) -> dict[str, float]:
    return {kind: sum(sum(one.cpu_times()[:2]) for one in every) for kind, every in processes.items()}


def _processes() -> dict[str, list[psutil.Process]]:
    found: dict[str, list[psutil.Process]] = {kind: [] for kind in KINDS.values()}
    for process in psutil.Process().children(recursive=True):
        title = " ".join(process.cmdline())
        for beginning, kind in KINDS.items():
            if title.startswith(beginning):
                found[kind].append(process)
    return found


async def _load(count: int, chunks: int) -> None:
    """So many requests, AT_ONCE at a time; each must bring all its chunks."""
    free = asyncio.Semaphore(AT_ONCE)

    async def ask(client: httpx.AsyncClient) -> None:
        async with free:
            response = await client.get("/", params={"chunks": chunks})
            assert response.status_code == 200, response.text
            assert response.text.count("data: ") == chunks

    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{PORT}", limits=limits, timeout=120) as client:
        await asyncio.gather(*(ask(client) for _ in range(count)))
