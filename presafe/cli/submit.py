"""`presafe submit`: a stage, or all of them, as jobs of a Ray cluster."""

import os
from collections.abc import Sequence
from importlib import import_module

import click

from presafe.cli.arguments import address, overrides
from presafe.config import STAGES, load_config


@click.command
@click.argument("verb", metavar="VERB", type=click.Choice([*STAGES, "pipeline"]))
@overrides
@click.option("--config", required=True, metavar="FILE", help="YAML file inside the working directory, see configs/")
@address
@click.option("--redo", is_flag=True, help="make anew what other settings or files have made")
@click.option("--force", is_flag=True, help="throw all old output of the stage away")
@click.option("--detach", is_flag=True, help="do not follow the job")
def submit(
    verb: str, overrides: Sequence[str], config: str, address: str | None, *, redo: bool, force: bool, detach: bool
) -> None:
    """Submit VERB, a stage or `pipeline`, as a job, and follow it; it goes on without this command.

    Exit code 0: it succeeded; 1: it failed; 3: it was stopped; 4: its node was lost.
    """
    jobs, follow = import_module("presafe.submission.jobs"), import_module("presafe.submission.follow").follow
    resolved = load_config(config, [*overrides])
    import_module("presafe.runtime").check_storage(resolved, submitted=True)
    client = import_module("presafe.submission.client").jobs_client(address)
    inside = import_module("presafe.submission.upload").check_upload(config)
    flags = [flag for flag, given in (("--redo", redo), ("--force", force)) if given]
    work = jobs.Work(resolved, verb, ["--config", inside, *overrides, *flags], os.curdir)
    job = jobs.submit(client, work)
    if not detach:
        raise SystemExit(follow(client, job))
