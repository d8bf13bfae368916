"""`presafe status`: how a run stands."""

from importlib import import_module

import click

from presafe.cli import arguments


@click.command
@arguments.run
@click.option("--json", "as_json", is_flag=True, help="for programs")
def status(run: str, *, as_json: bool) -> None:
    """Say how each part of RUN, a run directory STORAGE/NAME, stands, and who is at work."""
    import_module("presafe.standing").print_status(run, as_json=as_json)
