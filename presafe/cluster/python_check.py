"""Whether the Python of a stage's workers has what the stage needs, seen on one of their nodes before anything runs."""

import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import ray
from ray.exceptions import RayError

from presafe import private_cluster
from presafe.cluster.demand import Demand
from presafe.cluster.options import actor_options
from presafe.config import Environment
from presafe.errors import user_error

LOOK = """
import json, platform, sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
try:
    ray = version("ray")
except PackageNotFoundError:
    ray = None
missing = [name for name in sys.argv[1:] if find_spec(name) is None]
print(json.dumps({"python": platform.python_version(), "ray": ray, "missing": missing}))
"""
"""A program that says which Python it is, which Ray that has, and which of the packages named it lacks."""
LOOK_S = 120
"""How long that may take."""


def check_python(demand: Demand, packages: Sequence[str], minutes: float) -> None:
    """Raise UserError where the workers of a stage lack one of `packages`, or have another Ray or Python.

    One node of the stage's pool is looked at; environments that have to be made are made there, within `minutes`.
    """
    environment = demand.placement.environment
    if environment is None and private_cluster.folder() is not None:
        _refuse(demand, {"missing": [name for name in packages if find_spec(name) is None]}, "this machine")
        return
    options = actor_options(demand.placement) | {"num_cpus": 0}
    python = environment.python if environment else None
    if python is not None:
        options.pop("runtime_env")  # Ray itself would only say that no worker registered
    task = ray.remote(_look).options(max_retries=2, **options).remote(python, packages)
    try:
        node, found = ray.get(task, timeout=minutes * 60)
    except RayError as error:
        ray.cancel(task, force=True)
        raise user_error(
            found=f"no worker in {_named(environment)} for stage {demand.stage!r} ({_first_line(error)})",
            needed="one that starts",
            change=f"correct {demand.stage}.workers.environment",
        ) from error
    _refuse(demand, found, f"node {node}")


def _look(python: str | None, packages: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Runs on a node: what a Python there says, or why it says nothing."""
    command = [python or sys.executable, "-c", LOOK, *packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LOOK_S, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        found = {"broken": str(error)}
    return platform.node(), found


def _refuse(demand: Demand, found: dict[str, Any], place: str) -> None:
    """Raise UserError where what was found is not what a stage needs."""
    environment = demand.placement.environment
    where = f"{_named(environment)} on {place}"
    change = f"mend it there, or correct {demand.stage}.workers.environment"
    if "broken" in found:
        raise user_error(found=f"{where}, which does not run ({found['broken']})", needed="a Python", change=change)
    for name, own in (("ray", _own_ray()), ("python", platform.python_version())):
        there = found.get(name, own)
        if _significant(name, there) != _significant(name, own):
            raise user_error(
                found=f"{where} with {name.capitalize()} {there or '(none)'}",
                needed=f"{name.capitalize()} {own}, which the driver has: Ray mixes no versions",
                change=change,
            )
    if found["missing"]:
        raise user_error(
            found=f"{where} without {', '.join(found['missing'])}",
            needed=f"it for stage {demand.stage!r}",
            change=f"install it there, or name an environment that has it in {demand.stage}.workers.environment",
        )


def _significant(name: str, found: str | None) -> str | None:
    """Of Python's version the first two numbers."""
    return ".".join(found.split(".")[:2]) if name == "python" and found else found


def _named(environment: Environment | None) -> str:
    if environment is None:
        return "the Python that runs Ray"
    if environment.python is not None:
        return environment.python
    return f"an environment of {', '.join(environment.uv or environment.pip or [])}"


def _own_ray() -> str | None:
    try:
        return version("ray")
    except PackageNotFoundError:
        return None


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
