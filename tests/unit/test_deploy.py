"""Boards and rules ask for metrics that jobs and the endpoint have, in Grafana's and Prometheus' words."""

import ast
import json
import re
from pathlib import Path

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from watched_metrics import BOARDS, RULES, asked, expressions, promtool, rules

from presafe.telemetry import metrics as jobs

ROOT = Path(__file__).parents[2]
NAMES = ("endpoint", "jobs")
PARTS = re.compile("_(bucket|count|sum)$")
NODE = {"instance", "GpuIndex", "RayNodeType", "Name", "State", "Location"}
"""Labels of Ray's own metrics, and the one that Prometheus adds."""
LABELS = {
    "endpoint": {"application", "deployment", "replica", "code", "path", "gate", "le"},
    "jobs": {*jobs.LABELS, *NODE, "__name__"},
}


def endpoints_names() -> set[str]:
    """Names as Prometheus sees them, of the metrics that serve/operations/metrics.py makes."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / "serve" / "operations" / "metrics.py").read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            match node.func.id, node.args:
                case (("Counter" | "Gauge"), [ast.Constant(name), *_]):
                    names.add(f"ray_{name}")
                case "Histogram", [ast.Constant(name), *_]:
                    names |= {f"ray_{name}_{part}" for part in ("bucket", "count", "sum")}
    assert len(names) > 20
    return names


def exposed_names(name: str) -> set[str]:
    if name == "endpoint":
        return endpoints_names()
    counters = {f"{counter}_total" for counter in jobs.COUNTERS}
    return {f"ray_{jobs.PREFIX}{metric}" for metric in {*jobs.GAUGES, *counters}}


def board(name: str) -> dict:
    return json.loads(BOARDS[name].read_text())


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_of_ours_that_is_asked_for_exists(name):
    ours = {metric for metric in asked(*expressions(name)) if metric.startswith("ray_presafe_")}
    assert ours
    assert ours <= exposed_names(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_is_drawn(name):
    drawn = {PARTS.sub("", metric) for metric in asked(*expressions(name))}
    assert {PARTS.sub("", metric) for metric in exposed_names(name)} <= drawn


@pytest.mark.parametrize("name", NAMES)
def test_every_label_asked_for_exists(name):
    for expression in expressions(name):
        grouped = ", ".join(re.findall(r"\bby \(([^)]*)\)", expression))
        selected = re.findall(r"[{,]\s*(\w+)\s*(?:=~|!=|!~|=)", expression)
        assert {*re.findall(r"\w+", grouped), *selected} <= LABELS[name], expression


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_says_what_is_wrong_and_how_bad(name):
    alerts = [rule for rule in rules(name) if "alert" in rule]
    assert len(alerts) >= 5
    for alert in alerts:
        assert alert["annotations"]["summary"], alert
        assert alert["labels"]["severity"] in ("page", "ticket"), alert


@pytest.mark.parametrize("name", NAMES)
def test_expressions_ask_for_recorded_rules_that_exist(name):
    recorded = {rule["record"] for rule in rules(name) if "record" in rule}
    for expression in expressions(name):
        assert expression.count("(") == expression.count(")"), expression
        assert set(re.findall(r"\bpresafe:[\w:]+", expression)) <= recorded, expression


@pytest.mark.parametrize("name", NAMES)
def test_prometheus_takes_the_rules(name):
    assert f"SUCCESS: {len(rules(name))} rules found" in promtool("check", "rules", str(RULES[name]))


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_goes_on_and_stays_off(name):
    file = ROOT / "tests" / "data" / "prometheus" / f"{name}.yaml"
    for rule in rules(name):
        if "alert" in rule:
            cases = re.findall(rf"alertname: {rule['alert']}\b(.*)", file.read_text())
            assert any("eval_time" in case for case in cases), f"{rule['alert']} off"
            assert "" in cases, f"{rule['alert']} on"
    assert "SUCCESS" in promtool("test", "rules", str(file))


@pytest.mark.parametrize("name", NAMES)
def test_grafana_knows_every_field_of_the_board(name):
    """Read and written by the types that Grafana generates of its own schema: they drop what they do not know."""
    register_default_plugins()
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(board(name))))
    assert lost(board(name), read) == []
    assert {panel["type"] for panel in board(name)["panels"]} == {"timeseries"}


def test_a_field_that_grafana_does_not_know_is_found():
    register_default_plugins()
    wrong = board("jobs")
    wrong["panels"][0] |= {"gridPosition": {}}
    wrong["panels"][1]["targets"][0]["expression"] = "up"
    wrong["panels"][2]["fieldConfig"]["defaults"]["maximum"] = 1
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(wrong)))
    assert lost(wrong, read) == [
        ".panels[0].gridPosition",
        ".panels[1].targets[0].expression",
        ".panels[2].fieldConfig.defaults.maximum",
    ]


def lost(written: object, read: object, path: str = "") -> list[str]:
    """Paths of what is in `written` and not, or otherwise, in `read`, which may have more."""
    if isinstance(written, dict) and isinstance(read, dict):
        return [
            line
            for key, value in written.items()
            for line in (lost(value, read[key], f"{path}.{key}") if key in read else [f"{path}.{key}"])
        ]
    if isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        return [
            line
            for k, (there, here) in enumerate(zip(written, read, strict=True))
            for line in lost(there, here, f"{path}[{k}]")
        ]
    return [] if written == read else [path]


@pytest.mark.parametrize("name", NAMES)
def test_panels_do_not_overlap(name):
    panels = board(name)["panels"]
    places = [panel["gridPos"] for panel in panels]
    assert len({(place["x"], place["y"]) for place in places}) == len({panel["id"] for panel in panels}) == len(panels)
    assert all(
        place["w"] == 12 and place["h"] == 8 and place["x"] in (0, 12) and place["y"] % 8 == 0 for place in places
    )


def test_boards_have_addresses_of_their_own():
    assert len({board(name)["uid"] for name in NAMES}) == len({board(name)["title"] for name in NAMES}) == len(NAMES)
