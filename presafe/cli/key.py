"""`presafe key`: API keys of the endpoint."""

from importlib import import_module

import click

file = click.argument("path", metavar="FILE")
key_id = click.argument("key_id", metavar="ID")


@click.group
def key() -> None:
    """Make, list and revoke API keys of the endpoint, in its key FILE (`access.keys`). An ID says who has a key."""


@key.command
@file
@key_id
@click.option("--requests-per-minute", type=int, metavar="N", help="in any 60 seconds, over all replicas")
@click.option("--concurrency", type=int, metavar="N", help="at once, over all replicas")
def add(path: str, key_id: str, requests_per_minute: int | None, concurrency: int | None) -> None:
    """Make a key and print it, this once."""
    print_new_key = import_module("serve.operations.key_command").print_new_key
    print_new_key(path, key_id, requests_per_minute=requests_per_minute, concurrency=concurrency)


@key.command
@file
@key_id
def revoke(path: str, key_id: str) -> None:
    """End a key."""
    import_module("serve.operations.key_command").revoke_key(path, key_id)
    print(f"revoked {key_id}")


@key.command("list")
@file
def list_keys(path: str) -> None:
    """Print ids and limits."""
    import_module("serve.operations.key_command").print_keys(path)
