"""`presafe cancel`: the end of a run's jobs."""

from importlib import import_module

import click

from presafe.cli.arguments import address, run_name


@click.command
@run_name
@address
def cancel(run: str, address: str | None) -> None:
    """Stop the jobs of RUN, NAME or STORAGE/NAME, wait until they have ended, and say which."""
    client = import_module("presafe.submission.client").jobs_client(address)
    raise SystemExit(import_module("presafe.submission.cancel").cancel(client, run))
