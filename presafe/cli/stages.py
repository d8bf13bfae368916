"""`presafe STAGE`: one stage of a config."""

from collections.abc import Sequence
from importlib import import_module

import click

from presafe.cli.arguments import of_a_config
from presafe.config import load_config
from presafe.pipeline import checked, describe, every_part, run_one


def _stage(name: str) -> click.Command:
    @click.command(name, help=f"Run stage {name} of a config, in this process's cluster or the one that it joins.")
    @of_a_config
    def stage(config: str, overrides: Sequence[str], *, redo: bool, force: bool, dry_run: bool) -> None:
        _run(name, config, overrides, redo=redo, force=force, dry_run=dry_run)

    return stage


def _run(name: str, config: str, overrides: Sequence[str], *, redo: bool, force: bool, dry_run: bool) -> None:
    resolved = checked(load_config(config, [*overrides]))
    if dry_run:
        print(describe(resolved))
    else:
        run_one(resolved, name, redo=every_part(resolved, name) if redo else (), force=force)


prompts, teacher, signals = map(_stage, ("prompts", "teacher", "signals"))


@click.command
@of_a_config
@click.option("--plan", is_flag=True, help="print how many completions and tokens it will take, and generate nothing")
def evaluate(config: str, overrides: Sequence[str], *, plan: bool, redo: bool, force: bool, dry_run: bool) -> None:
    """Run stage evaluate of a config, in this process's cluster or the one that it joins."""
    if plan:
        resolved = checked(load_config(config, [*overrides]))
        print(import_module("presafe.evaluate.plan").plan_text(resolved))
    else:
        _run("evaluate", config, overrides, redo=redo, force=force, dry_run=dry_run)


@click.command
@of_a_config
@click.option("--plan", is_flag=True, help="print what ZeRO and offload choices would need, and train nothing")
@click.option("--gpus", type=int, metavar="N", help="with --plan: for N GPUs")
def align(
    config: str, overrides: Sequence[str], gpus: int | None, *, plan: bool, redo: bool, force: bool, dry_run: bool
) -> None:
    """Run stage align of a config, in this process's cluster or the one that it joins."""
    if plan:
        resolved = checked(load_config(config, [*overrides]))
        print(import_module("presafe.align.preflight.preview").plan_text(resolved, gpus))
    else:
        _run("align", config, overrides, redo=redo, force=force, dry_run=dry_run)
