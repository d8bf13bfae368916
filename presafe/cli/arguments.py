"""Arguments that several verbs take."""

from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]

run = click.argument("run")
"""A run directory, STORAGE/NAME, local or remote."""
run_name = click.argument("run")
"""A run on a cluster: its name, or its directory STORAGE/NAME."""
address = click.option("--address", metavar="URL", help="the cluster's dashboard; by default RAY_API_SERVER_ADDRESS")
overrides = click.argument("overrides", nargs=-1, metavar="[section.key=value]...")
settings = click.argument("settings", nargs=-1, metavar="[key=value]...")


def of_a_config(command: Command) -> Command:
    """The config of a run with its overrides, and what becomes of what is there already."""
    for add in (
        overrides,
        click.option("--dry-run", is_flag=True, help="print the resolved config and the cluster's load"),
        click.option("--force", is_flag=True, help="throw all old output of the stage away"),
        click.option("--redo", is_flag=True, help="make anew what other settings or files have made"),
        click.option("--config", required=True, metavar="FILE", help="YAML file, see configs/"),
    ):
        command = add(command)
    return command
