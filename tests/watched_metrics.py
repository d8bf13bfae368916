"""What Grafana's boards and Prometheus' rules of `deploy/` ask for, and Prometheus' own tool."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"
BOARDS = {name: DEPLOY / "grafana" / f"{name}.json" for name in ("endpoint", "jobs")}
RULES = {name: DEPLOY / "prometheus" / f"{name}.yaml" for name in ("endpoint", "jobs")}
NEED_A_GPU = {"ray_node_gpus_utilization", "ray_node_gram_used", "ray_node_gram_available"}
"""Ray's metrics that a node without a GPU does not have."""


def rules(name: str) -> list[dict]:
    return [rule for group in yaml.safe_load(RULES[name].read_text())["groups"] for rule in group["rules"]]


def expressions(name: str) -> Iterator[str]:
    """Of the rules, the panels and the variables."""
    board = json.loads(BOARDS[name].read_text())
    yield from (rule["expr"] for rule in rules(name))
    yield from (target["expr"] for panel in board["panels"] for target in panel["targets"])
    yield from (variable["query"] for variable in board["templating"]["list"] if variable["type"] == "query")


def asked(*expressions: str) -> set[str]:
    """Names of the metrics in them."""
    return {name for expression in expressions for name in re.findall(r"\bray_\w+", expression)}


def promtool(*arguments: str) -> str:
    """What `promtool` says; the test fails where it fails, and is skipped where there is none."""
    done = _promtool(*arguments)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def complaints(exposition: str) -> set[str]:
    """What `promtool check metrics` finds wrong with the text, but for the spelling of Ray's own labels."""
    done = _promtool("check", "metrics", stdin=exposition)
    assert done.returncode in (0, 3), done.stderr
    return {line for line in (done.stdout + done.stderr).splitlines() if "label names should be" not in line}


def _promtool(*arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool; Debian's package `prometheus` has it")
    return subprocess.run([program, *arguments], input=stdin, capture_output=True, text=True, check=False)
