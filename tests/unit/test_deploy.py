"""What watches the endpoint from outside asks for metrics that it has."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES, DASHBOARD = ROOT / "deploy" / "prometheus-rules.yaml", ROOT / "deploy" / "grafana-dashboard.json"


def exposed_names() -> set[str]:
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


def expressions() -> Iterator[str]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


@pytest.mark.parametrize("file", [RULES, DASHBOARD], ids=lambda file: file.name)
def test_every_metric_asked_for_exists(file):
    asked = set(re.findall(r"\bray_\w+", file.read_text()))
    assert asked
    assert asked <= exposed_names()


def test_every_metric_is_drawn():
    drawn = set(re.findall(r"\bray_\w+", DASHBOARD.read_text()))
    parts = re.compile("_(bucket|count|sum)$")
    assert {parts.sub("", name) for name in exposed_names()} == {parts.sub("", name) for name in drawn}


def test_every_label_asked_for_exists():
    known = {"application", "deployment", "replica", "code", "path", "gate", "le"}
    for expression in expressions():
        grouped = ", ".join(re.findall(r"\bby \(([^)]*)\)", expression))
        selected = re.findall(r"[{,]\s*(\w+)\s*(?:=~|!=|=)", expression)
        assert {*re.findall(r"\w+", grouped), *selected} <= known, expression


def test_every_alert_says_what_is_wrong_and_how_bad():
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    alerts = [rule for rule in rules if "alert" in rule]
    assert len(alerts) >= 5
    for alert in alerts:
        assert alert["annotations"]["summary"], alert
        assert alert["labels"]["severity"] in ("page", "ticket"), alert


def test_expressions_ask_for_recorded_rules_that_exist():
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    for expression in expressions():
        assert expression.count("(") == expression.count(")"), expression
        assert set(re.findall(r"\bpresafe:[\w:]+", expression)) <= recorded, expression


def test_panels_do_not_overlap():
    places = [panel["gridPos"] for panel in json.loads(DASHBOARD.read_text())["panels"]]
    corners = {(place["x"], place["y"]) for place in places}
    assert len(corners) == len(places)
    assert all(
        place["w"] == 12 and place["h"] == 8 and place["x"] in (0, 12) and place["y"] % 8 == 0 for place in places
    )
