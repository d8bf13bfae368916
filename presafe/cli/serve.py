"""`presafe serve`: the endpoint."""

from collections.abc import Sequence
from importlib import import_module

import click

from presafe.cli.arguments import settings
from presafe.config import load_serve


@click.command
@click.argument("model", metavar="RUN|MODEL")
@settings
def serve(model: str, settings: Sequence[str]) -> None:
    """Serve the model of RUN, a run directory STORAGE/NAME, as section `serve` of its config says, or a MODEL.

    The settings change that section.
    """
    arguments = import_module("serve.arguments")
    section = arguments.serve_section(model)
    chosen = load_serve([*settings], section)
    model = model if section is None else arguments.model_of(model)
    import_module("serve.deployment.checks").check(model, chosen)  # in a second: what is behind it takes longer
    import_module("serve.deployment.command").serve_model(model, chosen)
