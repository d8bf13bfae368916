"""Command lines of `presafe`, taken apart and not run."""

from collections.abc import Sequence
from typing import Any

import click

from presafe.cli import verbs


def parsed(arguments: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The verb, and what it is given by name. Raises click.UsageError for what cannot be given."""
    verb, *rest = arguments
    context = click.Context(verbs)
    command = verbs.get_command(context, verb)
    if command is None:
        raise click.UsageError(f"no verb {verb!r}")
    while isinstance(command, click.Group):
        _, command, rest = command.resolve_command(click.Context(command), rest)
        assert command is not None
    return verb, command.make_context(verb, rest).params
