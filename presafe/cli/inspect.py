"""`presafe inspect`: what PreSafe reads off a model."""

from importlib import import_module

import click


@click.command
@click.argument("model")
def inspect(model: str) -> None:
    """Print the think format, LoRA targets and recipe of MODEL: a folder, a hub name, or a tokenizer's folder."""
    import_module("presafe.align.preflight.inspection").run_inspect(model)
