"""A rank that makes no progress ends itself: Ray Train sees it die, and starts the group from the last checkpoint."""

import logging
import os
import threading
import time
from types import TracebackType
from typing import Self

logger = logging.getLogger("presafe")


class Watchdog:
    """Kills this process where `alive` is not called for `seconds`, for as long as the body runs.

    An exception would not do: a rank that waits for another in a collective never gets to raise it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._last, self._stop = seconds, time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def alive(self) -> None:
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        self.alive()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while (left := self._last + self._seconds - time.monotonic()) > 0:
            if self._stop.wait(left):
                return
        logger.critical("no finished step for %.0f s: this rank ends itself", self._seconds)
        os._exit(1)
