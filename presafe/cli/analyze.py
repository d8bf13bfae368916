"""`presafe analyze`: what an alignment changed inside the model of a run."""

from collections.abc import Sequence
from importlib import import_module

import click

from presafe.cli import arguments


@click.command
@arguments.run
@arguments.settings
@click.option("--redo", is_flag=True, help="make anew what other settings or files have made")
def analyze(run: str, settings: Sequence[str], *, redo: bool) -> None:
    """Say where the alignment moved the weights of RUN, a run directory STORAGE/NAME, which layers tell harmful from
    benign prompts before and after it, who agrees with whom, and what the answers cost.

    The settings are those of section `analysis`: prompts=400.
    """
    overrides = [f"analysis.{one}" for one in settings]
    with import_module("presafe.standing").kept(run, overrides) as config:
        import_module("presafe.analysis").run_analysis(config, redo=redo)
