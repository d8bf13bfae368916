"""`presafe export`, `presafe grade`: parts of a finished run anew."""

from collections.abc import Sequence
from importlib import import_module

import click

from presafe.cli import arguments
from presafe.pipeline import run_one


@click.command
@arguments.run
@arguments.overrides
def export(run: str, overrides: Sequence[str]) -> None:
    """Export the model of RUN, a run directory STORAGE/NAME, anew, with what is to be different."""
    _again(run, overrides, "align", ("export",))


@click.command
@arguments.run
@arguments.overrides
def grade(run: str, overrides: Sequence[str]) -> None:
    """Grade, measure and report the answers of RUN, a run directory STORAGE/NAME, with what is to be different."""
    _again(run, overrides, "evaluate", ("grade", "measure", "report"))


def _again(run: str, overrides: Sequence[str], stage: str, parts: tuple[str, ...]) -> None:
    with import_module("presafe.standing").kept(run, [*overrides]) as config:
        run_one(config, stage, redo=parts)
