"""What `GET /metrics` answers: this project's metrics of every replica, in Prometheus' text format.

A request reaches one replica only, but each node's Ray agent has the metrics of all replicas on it. So the agents of
all nodes are asked, and what is not the endpoint's is left out, our jobs' metrics too: who reads these needs no key. Of
several applications in a cluster all are told, by their tag.
"""

import asyncio
import re
from collections.abc import Iterable, Iterator

import httpx
import ray
from prometheus_client import CONTENT_TYPE_LATEST, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST
TIMEOUT_SECONDS = 3.0
"""How long an agent may take; Prometheus itself waits 10 s by default."""
_OURS = re.compile(r"(?:# (?:HELP|TYPE) )?\w*presafe_(?!stage_)\w*[ {]")


async def exposition() -> bytes:
    """The metrics of all nodes. One that does not answer is left out, and counted in `presafe_nodes_unanswered`."""
    nodes = await asyncio.to_thread(ray.nodes)
    agents = [
        httpx.URL(scheme="http", host=node["NodeManagerAddress"], port=node["MetricsExportPort"], path="/metrics")
        for node in nodes
        if node["Alive"]
    ]
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
        texts = await asyncio.gather(*(_ask(client, agent) for agent in agents))
    return await asyncio.to_thread(merge, texts)


def merge(texts: Iterable[str | None]) -> bytes:
    """Our metric families of several texts as one, each named once; None is a node that did not answer."""
    return generate_latest(_Merged(texts))


class _Merged(Collector):
    def __init__(self, texts: Iterable[str | None]) -> None:
        self._texts = list(texts)

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for text in filter(None, self._texts):
            ours = "\n".join(line for line in text.split("\n") if _OURS.match(line))
            for family in text_string_to_metric_families(ours):
                families.setdefault(family.name, family)
                if families[family.name] is not family:
                    families[family.name].samples.extend(family.samples)
        yield from families.values()
        help_text = "Nodes whose Ray agent did not tell its metrics: theirs are missing here."
        yield GaugeMetricFamily("presafe_nodes_unanswered", help_text, value=self._texts.count(None))


async def _ask(client: httpx.AsyncClient, agent: httpx.URL) -> str | None:
    try:
        response = await client.get(agent)
        return response.raise_for_status().text
    except httpx.HTTPError:
        return None
