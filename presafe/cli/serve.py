"""`presafe serve`: the endpoint."""

from collections.abc import Sequence
from importlib import import_module

import click

from presafe.cli.arguments import settings
from presafe.config import load_serve


@click.command
@click.argument("model")
@settings
def serve(model: str, settings: Sequence[str]) -> None:
    """Serve an exported MODEL, the folder model/ of a run, with settings of the config's section `serve`."""
    chosen = load_serve([*settings])
    import_module("serve.deployment.checks").check(model, chosen)  # in a second: what is behind it takes longer
    import_module("serve.deployment.command").serve_model(model, chosen)
