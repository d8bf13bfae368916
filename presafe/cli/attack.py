"""`presafe attack`: searches against the model of a run."""

import json
from collections.abc import Sequence
from importlib import import_module

import click

from presafe.cli import arguments


@click.command
@arguments.run
@click.argument("given", nargs=-1, metavar="[ATTACK]... [key=value]...")
@click.option("--redo", is_flag=True, help="make anew what other settings have made")
def attack(run: str, given: Sequence[str], *, redo: bool) -> None:
    """Search for what breaks the decisions of the model of RUN, a run directory STORAGE/NAME, within a budget.

    ATTACK: random_words (the control), best_of_n, augmentations, blind_words, benign_words, suffix, steering,
    steering_middle; by default all. The settings are those of section `attack`: budget=64 limit=50 seed=0.
    """
    names = [one for one in given if "=" not in one]
    changes = [f"attack.{one}" for one in given if "=" in one]
    overrides = [*changes, *([f"attack.attacks={json.dumps(names)}"] if names else [])]
    with import_module("presafe.standing").kept(run, overrides) as config:
        import_module("presafe.attacks.adaptive").run_attacks(config, redo=redo)
