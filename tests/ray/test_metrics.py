"""The metrics of real replicas, as a real Ray passes them on and the endpoint tells them."""

import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from watched_metrics import asked, complaints, expressions

DEADLINE_S = 120.0
REPLICAS = 2
FAMILIES = 19


def build() -> Any:
    """An application whose replicas each count one request, four decisions and the ends of two."""
    from ray import serve

    @serve.deployment(num_replicas=REPLICAS, ray_actor_options={"num_cpus": 0.1}, health_check_period_s=1)
    class Counted:
        def __init__(self) -> None:
            from serve.operations.metrics import Metrics

            metrics = self.metrics = Metrics()
            metrics.request(200)
            metrics.prepared(0.001)
            metrics.decision(path="think", gate="shadow", gate_path="refuse", refuse_probability=0.72, seconds=0.02)
            metrics.decision(
                path="refuse", gate="shadow", gate_path="refuse", refuse_probability=math.nan, seconds=0.02
            )
            for gate in ("shadow", "on"):
                metrics.decision(path="answer", gate=gate, gate_path="refuse", refuse_probability=0.95, seconds=0.02)
            metrics.first_token(0.03)
            metrics.finished(path="think", prompt_tokens=10, completion_tokens=30, reasoning_tokens=20, seconds=3)
            metrics.finished(path="refuse", prompt_tokens=0, completion_tokens=4, reasoning_tokens=0, seconds=0.1)

        def check_health(self) -> None:
            """Serve calls it regularly, as gauges want to be set: Ray forgets one that was not for two exports."""
            self.metrics.engine(running=3, waiting=1, kv_cache_used_share=0.5)
            self.metrics.drift(0.3, alarm=True)
            self.metrics.audit(7)

        async def exposition(self) -> bytes:
            from serve.operations.exposition import exposition

            return await exposition()

    return Counted.bind()


@pytest.fixture(scope="module")
def text(local_ray: None) -> Iterator[str]:  # noqa: ARG001 - the cluster
    """What one replica tells, once the metrics of both have come through."""
    from ray import serve
    from ray.serve.schema import LoggingConfig

    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
    serve.start(proxy_location="Disabled", logging_config=quiet)
    handle = serve.run(build(), name="counted", route_prefix=None, logging_config=quiet)
    end = time.monotonic() + DEADLINE_S
    while True:
        text = handle.exposition.remote().result().decode()
        found = parsed(text)
        # Gauges come with later exports than counters, and one that is not set again in time is left out of an export.
        if len(found) == FAMILIES and all(
            len(replicas(family)) == REPLICAS for name, family in found.items() if name != "presafe_nodes_unanswered"
        ):
            break
        assert time.monotonic() < end, text
        time.sleep(0.2)
    yield text
    serve.shutdown()


@pytest.fixture(scope="module")
def families(text: str) -> dict[str, Metric]:
    return parsed(text)


def parsed(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def replicas(family: Metric) -> set[str]:
    return {sample.labels["replica"] for sample in family.samples}


def values(family: Metric, name: str = "", **labels: str) -> list[float]:
    """Of the samples of this name with these labels."""
    return [
        sample.value
        for sample in family.samples
        if sample.name == (name or sample.name) and labels.items() <= sample.labels.items()
    ]


def test_one_replica_tells_the_metrics_of_all_under_their_documented_names(families: dict[str, Metric]) -> None:
    assert set(families) == {
        "presafe_nodes_unanswered",
        "ray_presafe_audit_lines_lost",
        "ray_presafe_completion_tokens",
        "ray_presafe_decisions",
        "ray_presafe_drift_alarm",
        "ray_presafe_drift_psi",
        "ray_presafe_gate_disagreements",
        "ray_presafe_kv_cache_used_share",
        "ray_presafe_prepare_seconds",
        "ray_presafe_prompt_tokens",
        "ray_presafe_reasoning_tokens",
        "ray_presafe_refuse_probability",
        "ray_presafe_request_seconds",
        "ray_presafe_requests",
        "ray_presafe_requests_running",
        "ray_presafe_requests_waiting",
        "ray_presafe_seconds_to_decision",
        "ray_presafe_seconds_to_first_token",
        "ray_presafe_tokens_saved",
    }
    assert values(families["presafe_nodes_unanswered"]) == [0]
    for name, family in families.items():
        if name != "presafe_nodes_unanswered":
            assert {sample.labels["application"] for sample in family.samples} == {"counted"}, name


def test_boards_and_rules_ask_for_nothing_else(families: dict[str, Metric]) -> None:
    there = {sample.name for family in families.values() for sample in family.samples}
    names = asked(*expressions("endpoint"))
    assert names
    assert names <= there


def test_prometheus_finds_nothing_to_say_of_the_names(text: str) -> None:
    assert complaints(text) == set()


def test_counters_end_in_total_and_keep_their_tags(families: dict[str, Metric]) -> None:
    assert values(families["ray_presafe_requests"], "ray_presafe_requests_total", code="200") == [1, 1]
    decisions = families["ray_presafe_decisions"]
    assert values(decisions, "ray_presafe_decisions_total", path="think", gate="shadow") == [1, 1]
    assert values(decisions, path="refuse", gate="shadow") == [1, 1]
    assert values(decisions, path="answer", gate="on") == values(decisions, path="answer", gate="shadow") == [1, 1]
    disagreements = values(families["ray_presafe_gate_disagreements"])
    assert disagreements == [2, 2], "an answer behind a block that the gate closed is none"
    assert values(families["ray_presafe_prompt_tokens"]) == [10, 10]
    assert values(families["ray_presafe_completion_tokens"]) == [34, 34]


def test_a_refusal_spares_what_thinking_takes(families: dict[str, Metric]) -> None:
    assert values(families["ray_presafe_reasoning_tokens"]) == [20, 20]
    assert values(families["ray_presafe_tokens_saved"]) == [20, 20]


def test_a_probability_that_is_not_a_number_counts_in_the_last_bin(families: dict[str, Metric]) -> None:
    probability = families["ray_presafe_refuse_probability"]
    assert values(probability, le="0.7") == [0, 0]
    assert values(probability, le="0.8") == [1, 1]
    assert values(probability, le="0.9") == [1, 1]
    assert values(probability, le="+Inf") == [4, 4]


def test_gauges_are_the_last_values(families: dict[str, Metric]) -> None:
    assert values(families["ray_presafe_kv_cache_used_share"]) == [0.5, 0.5]
    assert values(families["ray_presafe_requests_running"]) == [3, 3]
    assert values(families["ray_presafe_drift_psi"]) == [0.3, 0.3]
    assert values(families["ray_presafe_drift_alarm"]) == [1, 1]
