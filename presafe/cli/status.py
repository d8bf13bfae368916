"""`presafe status`: how a run stands."""

import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import click

from presafe.cli import arguments


@click.command
@arguments.run
@click.option("--address", metavar="URL", help="a cluster's dashboard: the run's jobs there, too")
@click.option("--json", "as_json", is_flag=True, help="for programs")
def status(run: str, address: str | None, *, as_json: bool) -> None:
    """Say how each part of RUN, a run directory STORAGE/NAME, stands, and who is at work.

    With --address, RAY_API_SERVER_ADDRESS or RAY_ADDRESS also how its jobs on that cluster stand.
    """
    jobs = partial(_jobs, address) if address or _named() else None
    import_module("presafe.standing").print_status(run, as_json=as_json, jobs=jobs)


def _named() -> bool:
    """Whether the environment names a cluster; `local` is Ray's word for a private one."""
    return bool(os.environ.get("RAY_API_SERVER_ADDRESS")) or os.environ.get("RAY_ADDRESS", "local") not in ("", "local")


def _jobs(address: str | None, root: str) -> list[dict[str, Any]]:
    client = import_module("presafe.submission.client").jobs_client(address)
    latest: Callable[..., list[dict[str, Any]]] = import_module("presafe.submission.standing").latest_jobs
    return latest(client, root)
