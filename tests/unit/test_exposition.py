"""The metrics of several nodes as one text."""

from prometheus_client.parser import text_string_to_metric_families

from serve.operations.exposition import merge


def node(name: str) -> str:
    """What the Ray agent of a node tells, in short."""
    return f"""# HELP ray_tasks Tasks.
# TYPE ray_tasks gauge
ray_tasks{{replica="presafe_{name}"}} 3.0
# HELP ray_presafe_requests_total Answered requests.
# TYPE ray_presafe_requests_total counter
ray_presafe_requests_total{{code="200",replica="{name}"}} 5.0
# HELP ray_presafe_request_seconds From arrival to the end.
# TYPE ray_presafe_request_seconds histogram
ray_presafe_request_seconds_bucket{{le="0.5",replica="{name}"}} 1.0
ray_presafe_request_seconds_bucket{{le="+Inf",replica="{name}"}} 2.0
ray_presafe_request_seconds_count{{replica="{name}"}} 2.0
ray_presafe_request_seconds_sum{{replica="{name}"}} 1.25
# HELP ray_presafe_stage_loss Of a job on the same cluster.
# TYPE ray_presafe_stage_loss gauge
ray_presafe_stage_loss{{run="secret"}} 0.5
"""


def test_nodes_add_up_to_one_text_of_our_families_alone():
    text = merge([node("one"), node("two")]).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) == {"ray_presafe_requests", "ray_presafe_request_seconds", "presafe_nodes_unanswered"}
    assert text.count("# TYPE ray_presafe_requests_total counter") == 1
    requests = families["ray_presafe_requests"].samples
    assert {(sample.name, sample.labels["replica"], sample.value) for sample in requests} == {
        ("ray_presafe_requests_total", "one", 5.0),
        ("ray_presafe_requests_total", "two", 5.0),
    }
    assert len(families["ray_presafe_request_seconds"].samples) == 8
    assert families["presafe_nodes_unanswered"].samples[0].value == 0


def test_one_node_keeps_its_lines():
    ours = [line for line in node("one").splitlines() if "ray_presafe" in line and "_stage_" not in line]
    assert [line for line in merge([node("one")]).decode().splitlines() if "ray_presafe" in line] == ours


def test_a_node_that_does_not_answer_is_counted():
    text = merge([None, node("two"), None]).decode()
    assert "presafe_nodes_unanswered 2.0" in text
    assert 'ray_presafe_requests_total{code="200",replica="two"} 5.0' in text


def test_without_any_metric_the_text_is_still_one():
    assert "presafe_nodes_unanswered 0.0" in merge([""]).decode()
