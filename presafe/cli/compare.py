"""`presafe compare`: what several runs measured, side by side and on the same prompts."""

from collections.abc import Sequence
from importlib import import_module

import click


@click.command
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--out", metavar="FOLDER", help="write compare.html and compare.json there, too")
def compare(runs: Sequence[str], out: str | None) -> None:
    """Compare what runs, RUN directories STORAGE/NAME, measured; each against the first one on the same prompts."""
    import_module("presafe.evaluate.compare").run_compare(runs, out)
