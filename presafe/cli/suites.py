"""`presafe suites`: the public suites that a config may name."""

from importlib import import_module

import click


@click.command
@click.option("--check", is_flag=True, help="ask where each one lies whether this machine may read it")
@click.option("--json", "as_json", is_flag=True, help="for programs; with columns, forms, overlaps and citations")
def suites(*, check: bool, as_json: bool) -> None:
    """List the public suites that a config may name, with their terms."""
    import_module("presafe.suites.listing").print_suites(as_json=as_json, check=check)
