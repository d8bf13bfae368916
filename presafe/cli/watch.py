"""`presafe watch`: the training curves of a run."""

from importlib import import_module

import click

from presafe.cli import arguments


@click.command
@arguments.run
@click.option("--png", metavar="FILE", help="draw them to this file, too")
@click.option("--follow", is_flag=True, help="draw again every few seconds until the run ends")
def watch(run: str, png: str | None, *, follow: bool) -> None:
    """Draw the training curves of RUN, a run directory STORAGE/NAME, as RUN/align/watch.html."""
    import_module("presafe.watch").run_watch(run, png=png, follow=follow)
