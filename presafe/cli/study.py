"""`presafe study`: arms by seeds by bases, and what they differ in."""

import sys
from collections.abc import Sequence
from importlib import import_module

import click

from presafe.cli import arguments


@click.command
@click.argument("file", metavar="FILE")
@arguments.settings
@click.option("--redo", is_flag=True, help="make anew what other settings or files have made")
@click.option("--dry-run", is_flag=True, help="print the cells, and run none")
@click.option("--report", is_flag=True, help="report on the cells that are done so far, and run none")
def study(file: str, settings: Sequence[str], *, redo: bool, dry_run: bool, report: bool) -> None:
    """Run the cells of a study, a YAML FILE (configs/study.yaml), that are not done, and report on all of them.

    Ends with 1 where cells failed: the same command tries them again.
    """
    given = import_module("presafe.study.settings").load_study(file, [*settings])
    if dry_run:
        print("\n".join(cell.name for cell in import_module("presafe.study.plan").planned(given).cells))
        return
    if report:
        import_module("presafe.study").report_study(given)
        return
    failed = import_module("presafe.study").run_study(given, redo=redo)
    if failed:
        told = f"presafe: {len(failed)} runs of the study failed, and the same command tries them again:"
        print(told, "; ".join(f"{name} ({error})" for name, error in failed.items()), file=sys.stderr)
        raise SystemExit(1)
