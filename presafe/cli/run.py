"""`presafe run`: all stages of a config."""

from collections.abc import Sequence

import click

from presafe.cli.arguments import of_a_config
from presafe.config import load_config
from presafe.pipeline import checked, describe, run_pipeline


@click.command
@of_a_config
def run(config: str, overrides: Sequence[str], *, redo: bool, force: bool, dry_run: bool) -> None:
    """Run all stages of a config and print the result."""
    resolved = checked(load_config(config, [*overrides]))
    if dry_run:
        print(describe(resolved))
    else:
        run_pipeline(resolved, redo=redo, force=force)
