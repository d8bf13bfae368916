"""`presafe logs`: the log of a run's job."""

from importlib import import_module

import click

from presafe.cli.arguments import address, run_name
from presafe.config import STAGES


@click.command
@run_name
@click.argument("stage", required=False, metavar="[STAGE]", type=click.Choice([*STAGES, "pipeline"]))
@address
def logs(run: str, stage: str | None, address: str | None) -> None:
    """Print the log of a job of RUN, NAME or STORAGE/NAME, by default the latest, and follow it while it runs.

    Exit code 0: it succeeded; 1: it failed; 3: it was stopped; 4: its node was lost.
    """
    client = import_module("presafe.submission.client").jobs_client(address)
    job = import_module("presafe.submission.jobs").latest(client, run, stage)
    raise SystemExit(import_module("presafe.submission.follow").follow(client, job))
