"""`presafe init`: a first config."""

from importlib import import_module

import click


@click.command
@click.argument("model")
@click.option("--harmful", required=True, metavar="FILE", help="prompts to refuse")
@click.option("--harmful-column", metavar="NAME", help="its column that holds them; by default guessed")
@click.option("--benign", required=True, metavar="FILE", help="prompts to answer")
@click.option("--benign-column", metavar="NAME", help="its column that holds them; by default guessed")
@click.option("--output", default="config.yaml", metavar="FILE", help="by default config.yaml; must be new")
def init(
    model: str, harmful: str, harmful_column: str | None, benign: str, benign_column: str | None, output: str
) -> None:
    """Write a first config for MODEL, a folder or hub name, and two files of prompts."""
    new_config = import_module("presafe.new_config")
    new_config.check_absent(output)
    look_at = import_module("presafe.prompts.first_look").look_at
    files, columns = {"harmful": harmful, "benign": benign}, {"harmful": harmful_column, "benign": benign_column}
    looks = {kind: look_at(file, kind, columns[kind]) for kind, file in files.items()}
    dtype, align = import_module("presafe.align.preflight.placement").placed(model)
    new_config.write_config(output, model, files, looks, dtype, align)
