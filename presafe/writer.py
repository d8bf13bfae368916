"""One writer to a run directory at a time: who it is stands in `writer.json`, and a sign of life comes with it.

A second one is refused; a dead one's place is taken. Nothing is compared with another machine's clock: a writer is dead
where its process is gone on this machine, or where no sign of life came for `SILENCE_S` while somebody watched. A
storage that does not answer is silent for all: only looks that it answered count, so that nobody is taken for dead.
"""

import errno
import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from presafe import storage
from presafe.errors import user_error

logger = logging.getLogger("presafe")

FILE = "writer.json"
TIME = "%Y-%m-%d %H:%M:%S %Z"
BEAT_S, SILENCE_S, LOOK_S, SETTLED_S = 10.0, 45.0, 1.0, 0.5
"""Between signs of life; without one until a writer is called dead; between looks at it; until a place that was taken
is known to be one's own, where two take it at once."""

_held: dict[str, str] = {}
"""Ids of the writers that this process is, by run directory."""


def own_id(root: str) -> str | None:
    """The id of this process as the writer of `root`; None where it is none."""
    return _held.get(root)


def living(root: str) -> dict[str, Any] | None:
    """Who writes to `root` now: `writer` (an id), `host`, `pid`, `since`; None where nobody does who lives.

    Of one on another machine a sign of life is waited for, up to `SILENCE_S`.
    """
    url, silent = storage.join(root, FILE), 0.0
    first = found = _read(url)
    while found is not None and found == first:
        if found["machine"] == _machine():
            return None if _is_gone(found) else found
        if silent >= SILENCE_S:
            return None
        time.sleep(LOOK_S)
        silent += LOOK_S
        found = _read(url)
    return found


@contextmanager
def sole_writer(root: str) -> Iterator[None]:
    """Write to the run directory `root` alone while the body runs; inside it, again is no second time.

    Raises UserError where another one writes there. A writer that finds its place taken, after it was stopped for
    longer than `SILENCE_S`, is ended as by SIGTERM.
    """
    if root in _held:
        yield
        return
    place = _Place(root)
    place.take()
    _held[root] = place.id
    try:
        with place.signs_of_life():
            yield
    finally:
        del _held[root]
        place.leave()


class _Place:
    def __init__(self, root: str) -> None:
        self._url = storage.join(root, FILE)
        self.id = uuid.uuid4().hex
        self._own = {
            "writer": self.id,
            "host": socket.gethostname(),
            "machine": _machine(),
            "pid": os.getpid(),
            "since": time.strftime(TIME),
        }
        self._beats = 0

    def take(self) -> None:
        """Raises UserError where it belongs to one that lives."""
        watched, silent = _read(self._url), 0.0
        while not self._created():
            found = _read(self._url)
            if found is None:
                continue
            if watched is None or found["writer"] != watched["writer"]:
                watched, silent = found, 0.0
            if found["beat"] != watched["beat"]:
                raise _taken(self._url, found)
            if _is_gone(found) or silent >= SILENCE_S:
                logger.info("the writer of %s since %s is dead: its place is taken", self._url, found["since"])
                if _read(self._url) == found:
                    storage.remove(self._url)
                continue
            time.sleep(LOOK_S)
            silent += LOOK_S

    def leave(self) -> None:
        if self._is_own():
            storage.remove(self._url)

    @contextmanager
    def signs_of_life(self) -> Iterator[None]:
        over = threading.Event()

        def beat() -> None:
            refused = 0.0
            while not over.wait(BEAT_S):
                try:
                    if not (own := self._is_own()):
                        refused = SILENCE_S
                except Exception:  # noqa: BLE001 - a storage may fail for a while, in words of its own
                    logger.warning("%s cannot be read: nobody takes this place meanwhile", self._url)
                    continue
                try:
                    if own:
                        storage.write_text(self._url, self._text())
                        refused = 0.0
                except Exception:  # noqa: BLE001 - the same
                    logger.warning("no sign of life could be written to %s", self._url)
                    refused += BEAT_S
                if refused >= SILENCE_S:
                    logger.error("another writer took the place of this one in %s, or may: it ends", self._url)
                    os.kill(os.getpid(), signal.SIGTERM)  # Ctrl-C may be ignored, as behind nohup
                    return

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _created(self) -> bool:
        """Whether the place was free and is this one's now."""
        try:
            if not storage.create(self._url, self._text()):
                return False
        except OSError as error:
            raise storage.unwritable(self._url, error) from error
        time.sleep(SETTLED_S)
        return self._is_own()

    def _is_own(self) -> bool:
        found = _read(self._url)
        return found is not None and found["writer"] == self.id

    def _text(self) -> str:
        self._beats += 1
        return json.dumps(self._own | {"beat": self._beats})


def _read(url: str) -> dict[str, Any] | None:
    """Who writes; None where nobody does, or one is just about to say so."""
    try:
        found: dict[str, Any] = json.loads(storage.read_text(url))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    except OSError as error:
        if error.errno == errno.EBUSY:  # an object store's file changed while it was read
            return None
        raise
    return found


def _is_gone(found: dict[str, Any]) -> bool:
    """Whether the process is not there any more, where this machine can tell."""
    return bool(found["machine"] == _machine()) and not psutil.pid_exists(found["pid"])


def _machine() -> str:
    """Where a process number means the same process: names of hosts repeat, and containers count for themselves."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # no Linux
        return f"{socket.gethostname()} {uuid.getnode()}"


def _taken(url: str, found: dict[str, Any]) -> Exception:
    return user_error(
        found=f"another writer of {url.rsplit('/', 1)[0]}: process {found['pid']} on {found['host']}, since "
        f"{found['since']}, which is alive",
        needed="one writer at a time",
        change="wait for it, end it, or set another run.name",
    )
