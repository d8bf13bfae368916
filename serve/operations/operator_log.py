"""What the endpoint's processes warn of, on the terminal of `presafe serve` and in a file that outlives them."""

import glob
import logging
import os
import sys
from logging.handlers import RotatingFileHandler

FILE_BYTES, FILES = 10_000_000, 5
ORDINARY = ("All resources have shut down, controller exiting.", "slow __init__ or reconfigure method.")
"""Ends of lines that Serve warns with, and that say nothing."""


class OperatorLog:
    """Follows the log files of Serve's controller, proxies and replicas, which hold warnings and errors alone.

    They lie in the private cluster's temporary folder, and go with it.
    """

    def __init__(self, path: str, followed: str | None) -> None:
        """Writes to the file at `path`, rotated; `followed` is the folder of Serve's own files, which may come yet.

        Nothing is followed on a cluster that was joined, whose files are on its nodes, and of all its applications.
        """
        self.path = path
        self._followed = followed
        self._read: dict[tuple[int, int], int] = {}
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        self._file = _File(path, maxBytes=FILE_BYTES, backupCount=FILES - 1, encoding="utf-8")
        self._file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))

    def tell(self, line: str) -> None:
        """A line for the operator."""
        print(line, file=sys.stderr, flush=True)
        self._file.emit(logging.makeLogRecord({"msg": line}))

    def follow(self) -> None:
        """Tell what has been written since the last call."""
        if self._followed is None:
            return
        for path in sorted(glob.glob(os.path.join(self._followed, "*.log*")), reverse=True):  # .log.2, .log.1, .log
            try:
                lines = self._new_lines(path)
            except FileNotFoundError:  # it was rotated away meanwhile
                continue
            for line in lines:
                if not line.endswith(ORDINARY):
                    self.tell(line)

    def close(self) -> None:
        self.follow()
        self._file.close()

    def _new_lines(self, path: str) -> list[str]:
        """Whole lines behind what was read of a file, which keeps its inode where it is rotated to another name."""
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            key = (status.st_dev, status.st_ino)
            file.seek(self._read.get(key, 0))
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read[key] = self._read.get(key, 0) + len(whole)
        return [line for line in whole.decode("utf-8", "replace").split("\n") if line.strip()]


class _File(RotatingFileHandler):
    """Says once that it cannot be written, where the standard one prints a stack trace a line."""

    failing = False

    def emit(self, record: logging.LogRecord) -> None:
        failing, self.failing = self.failing, False
        self._before = failing
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - as logging names it
        self.failing = True
        if not self._before:
            error = sys.exc_info()[1]
            print(f"presafe: the log {self.baseFilename} cannot be written ({error})", file=sys.stderr, flush=True)
