"""API keys: random tokens of which only the SHA-256 is stored, read again whenever their file changes.

A token is 256 random bits, so a plain SHA-256 is enough at rest: there is nothing to guess, which is what the slow
hashes made for passwords protect against.
"""

import hashlib
import hmac
import logging
import os
import stat
import time
from collections.abc import Callable, Sequence

import yaml
from pydantic import Field, ValidationError, field_validator

from presafe.config import Settings
from presafe.errors import UserError, user_error

logger = logging.getLogger("ray.serve")

TOKEN_PREFIX = "presafe-"
LOOK_SECONDS = 1.0
"""How often the file is looked at, at most."""


class Key(Settings):
    """One client, as the key file holds it."""

    id: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """Its name, in the decision log and in metrics; not secret."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the token, in hexadecimal."""
    requests_per_minute: int | None = Field(None, ge=1)
    """Requests in any 60 seconds, over all replicas; null is no limit."""
    concurrency: int | None = Field(None, ge=1)
    """Requests at once, over all replicas; null is no limit."""


class KeyFile(Settings):
    """The file. Without any key nobody may enter."""

    keys: list[Key]

    @field_validator("keys")
    @classmethod
    def _differ(cls, keys: list[Key]) -> list[Key]:
        for name, values in (("id", [key.id for key in keys]), ("sha256", [key.sha256 for key in keys])):
            if repeated := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"{name} {', '.join(repeated)} more than once")
        return keys


class KeyRing:
    """The keys of a file, in one event loop. Keys come and go with the file, without a restart.

    A file that breaks later never opens the endpoint: the last good keys hold until it is mended.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises UserError where the file is missing, broken or writable by everybody."""
        self._path, self._clock = path, clock
        self._signature, self._looked = _signature(path), clock()
        self._keys: Sequence[Key] = read_keys(path)

    def identify(self, authorization: str | None) -> Key | None:
        """Whose request it is, by its `Authorization: Bearer TOKEN`; None for no key or an unknown one.

        Every stored digest is compared, each in constant time: how long it takes tells nothing of which one was near.
        """
        self.look()
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        digest = token_digest(token.strip())
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    def look(self) -> None:
        """Read the file again where it has changed. Call it also where no request comes: a broken file is told of."""
        now = self._clock()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        signature = _signature(self._path)
        if signature == self._signature:
            return
        self._signature = signature  # remembered for a broken file, too: it is told of once
        try:
            self._keys = read_keys(self._path)
        except UserError as error:
            logger.error("the last good API keys stay in force: %s", error)
            return
        logger.warning("the API keys have changed: %d are read from %s", len(self._keys), self._path)


def token_digest(token: str) -> str:
    """SHA-256 of a token, in hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def read_keys(path: str) -> list[Key]:
    """The keys of a file. Raises UserError where it cannot be read, is broken, or is writable by everybody.

    It may be readable by everybody (a mounted Kubernetes secret is): digests of random tokens cannot be turned back.
    """
    try:
        with open(path, encoding="utf-8") as file:
            open_to_all = os.fstat(file.fileno()).st_mode & stat.S_IWOTH
            content = yaml.safe_load(file)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _broken(path, str(error)) from error
    if open_to_all:
        raise user_error(
            found=f"the key file {path}, which everybody may write",
            needed="a file that only its owner may change: who writes it makes keys",
            change=f"run chmod o-w {path}",
        )
    try:
        return KeyFile.model_validate(content).keys
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, part['loc'])) or 'file'}: {part['msg']}" for part in error.errors())
        raise _broken(path, "; ".join(problems)) from error


def _broken(path: str, problem: str) -> UserError:
    return user_error(
        found=f"the key file {path}, which is no good ({' '.join(problem.split())})",
        needed="`keys`, a list of id, sha256 and, if you like, requests_per_minute and concurrency",
        change=f"mend it, or make one by: presafe key add {path} ID",
    )


def _signature(path: str) -> tuple[int, int, int] | None:
    """Changes with the file and with who may write it: a new one in its place has another inode, even with the same
    size and time.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ctime_ns, status.st_size, status.st_ino
