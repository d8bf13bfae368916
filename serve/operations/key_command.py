"""`presafe key`: issue, revoke and list API keys. Running endpoints follow within a second or two."""

import fcntl
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import yaml
from pydantic import ValidationError

from presafe.errors import user_error
from serve.operations.keys import TOKEN_PREFIX, Key, KeyFile, read_keys, token_digest


def print_new_key(
    path: str, key_id: str, *, requests_per_minute: int | None = None, concurrency: int | None = None
) -> None:
    """`presafe key add`: the token, alone, on standard output: it is shown this once and stored nowhere."""
    token = issue_key(path, key_id, requests_per_minute=requests_per_minute, concurrency=concurrency)
    print(f"the key of {key_id}, which nothing will show again:", file=sys.stderr)
    print(token)


def print_keys(path: str) -> None:
    """`presafe key list`."""
    for key in read_keys(path):
        print(_line(key))


def issue_key(path: str, key_id: str, *, requests_per_minute: int | None = None, concurrency: int | None = None) -> str:
    """A new token, whose digest is added to the file (made where there is none). Raises UserError for a taken id."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    try:
        key = Key(
            id=key_id,
            sha256=token_digest(token),
            requests_per_minute=requests_per_minute,
            concurrency=concurrency,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise user_error(
            found=f"{first['loc'][0]} {first['input']!r}",
            needed="an id of up to 64 letters, digits, dots, dashes or underscores, and limits of 1 or more",
            change="correct it",
        ) from error
    with _locked(path):
        keys = read_keys(path) if os.path.exists(path) else []
        if any(other.id == key_id for other in keys):
            raise user_error(
                found=f"a key {key_id} in {path} already",
                needed="an id of its own for every key",
                change="to rotate, add a key under another id, hand it out, then revoke the old one",
            )
        _write(path, [*keys, key])
    return token


def revoke_key(path: str, key_id: str) -> None:
    """Take a key out of the file. Raises UserError where it has none of this id."""
    with _locked(path):
        keys = read_keys(path)
        kept = [key for key in keys if key.id != key_id]
        if len(kept) == len(keys):
            raise user_error(
                found=f"no key {key_id} in {path}",
                needed="the id of one of its keys",
                change=f"look by: presafe key list {path}",
            )
        _write(path, kept)


def _line(key: Key) -> str:
    rate = "any number of" if key.requests_per_minute is None else f"{key.requests_per_minute}"
    at_once = "any number" if key.concurrency is None else f"{key.concurrency}"
    return f"{key.id}  sha256 {key.sha256[:12]}...  {rate} requests a minute, {at_once} at once"


def _write(path: str, keys: Sequence[Key]) -> None:
    """Beside the file, then over it: an endpoint reads the old keys or the new ones. Comments in it are lost."""
    target = os.path.realpath(path)
    text = yaml.safe_dump(KeyFile(keys=list(keys)).model_dump(), sort_keys=False)
    descriptor, partial = tempfile.mkstemp(prefix=f"{os.path.basename(target)}.", dir=os.path.dirname(target))
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:  # made by mkstemp with mode 0600
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, target)


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """One change at a time: of two at once the later would bring back a key that the other has revoked."""
    folder = os.path.dirname(os.path.realpath(path))
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise user_error(
            found=f"no folder {folder} ({error.strerror})",
            needed="a folder for the key file",
            change="make it, or correct the path",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
