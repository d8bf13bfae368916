"""The decision log: one JSON line a completion, written by a thread of its own and never by the event loop."""

import hashlib
import hmac
import json
import logging
import os
import queue
import sys
from contextlib import suppress
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import QueueListener, RotatingFileHandler
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from presafe.decision.rule import Path, PathTaken
from presafe.errors import user_error
from presafe.records import FinishReason

logger = logging.getLogger("ray.serve")

WAITING_LINES = 4096
"""Lines that wait for a disk that hangs; more are lost, and counted. A bound, since memory has one as well."""
SHORTEST_HASH_KEY = 32


class DecisionRecord(BaseModel):
    """One line: what was decided about one choice of one request, and what came of it. The schema of the log."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: datetime = Field(default_factory=lambda: datetime.now(UTC))
    """When the completion ended, UTC, ISO 8601."""
    request_id: str
    """The completion's `id`, which the client has as well."""
    choice: int
    """Index among the request's `n` choices."""
    key_id: str | None
    """Whose request; null where the endpoint asks for no key."""
    model: str
    path: PathTaken
    """What was done: `refuse` (a refusal without reasoning), `answer` (anything else without) or `think`."""
    refuse_probability: float | None
    """Null where it is not a number (a gate that is on then refuses)."""
    threshold: float | None
    """The gate's; null without a head."""
    gate: Literal["off", "on", "shadow"]
    gate_path: Path | None
    """What the gate decided, also in shadow; null where it is off."""
    finish_reason: FinishReason | None
    """As generation ended, whatever clients are told of refusals; null where the client was gone before the end."""
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    seconds_to_decision: float
    """From the request's arrival to its decision."""
    seconds: float
    """From the request's arrival to its end."""
    conversation_sha256: str
    """`conversation_digest` of the messages; an HMAC where the operator configured a key for it."""
    messages: list[dict[str, Any]] | None = None
    """The conversation itself, only where the operator switched text on."""


class AuditLog:
    """Decision records of one replica, in `FOLDER/NAME.jsonl`, rotated to `NAME.jsonl.1` and so on; mode 0600.

    `write` never waits. A record that cannot be written (disk full, or hanging until the queue is) is lost, but never
    silently: `lost` counts it, and the server's log tells when losing begins.
    """

    def __init__(self, folder: str, name: str, *, max_bytes: int, files: int) -> None:
        """Keeps at most `files` files of about `max_bytes` each. Raises UserError where the folder takes no file."""
        assert files > 1, "with one file alone nothing rotates: the handler would let it grow"
        path = os.path.join(folder, f"{name}.jsonl")
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            self._file = _LineFile(path, maxBytes=max_bytes, backupCount=files - 1, encoding="utf-8")
        except OSError as error:
            raise user_error(
                found=f"the decision log {path}, which cannot be written ({error.strerror})",
                needed="a local folder with room that the replicas may write",
                change="mend it, or name another folder",
            ) from error
        self._queue: queue.SimpleQueue[logging.LogRecord | None] = queue.SimpleQueue()
        self._overflowed = 0
        self._listener = QueueListener(self._queue, self._file)
        self._listener.start()

    def write(self, record: DecisionRecord) -> None:
        """Hand a record to the writing thread."""
        if self._queue.qsize() < WAITING_LINES:
            self._queue.put(logging.makeLogRecord({"msg": record.model_dump_json()}))
            return
        if self._overflowed == 0:
            logger.error("decision log: %d lines wait for the disk; more are lost", WAITING_LINES)
        self._overflowed += 1

    @property
    def lost(self) -> int:
        """Records that were not written, so far."""
        return self._overflowed + self._file.lost

    def close(self) -> None:
        """Write what waits, then stop."""
        self._listener.stop()
        self._file.close()


class _LineFile(RotatingFileHandler):
    """The file, opened anew after a failure; every line is flushed."""

    def __init__(self, path: str, **options: Any) -> None:
        self.lost = 0
        self._failing = False
        super().__init__(path, **options)

    def _open(self) -> TextIOWrapper:
        stream = open(self.baseFilename, "a", encoding="utf-8", opener=_open_private)  # noqa: SIM115 - the handler's
        if _ends_within_a_line(self.baseFilename):
            stream.write("\n")  # so that half a line, of a crash or a full disk, spoils no other
        return stream

    def emit(self, record: logging.LogRecord) -> None:
        lost, failing = self.lost, self._failing
        super().emit(record)
        self._failing = self.lost > lost
        if failing and not self._failing:
            logger.warning("decision log: %s is written again; %d lines were lost so far", self.baseFilename, self.lost)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - as logging names it
        """Count the line and drop the stream, which may hold part of it; the next line opens the file again."""
        self.lost += 1
        if not self._failing:
            error = sys.exc_info()[1]
            logger.error("decision log: %s cannot be written (%s); lines are lost", self.baseFilename, error)
        stream, self.stream = self.stream, None
        if stream is not None:
            with suppress(OSError):
                stream.close()


def conversation_digest(messages: list[dict[str, Any]], hash_key: bytes | None) -> str:
    """SHA-256 of the messages' canonical JSON, in hexadecimal: equal for equal conversations.

    Without a key who has the log can look short or guessable prompts up; with one (HMAC) only who has the key, too.
    """
    canonical = json.dumps(messages, sort_keys=True, separators=(",", ":")).encode("ascii")
    if hash_key is None:
        return hashlib.sha256(canonical).hexdigest()
    return hmac.new(hash_key, canonical, hashlib.sha256).hexdigest()


def read_hash_key(path: str) -> bytes:
    """The key of the log's digests: the file's text without white space around. Raises UserError where it is short."""
    try:
        with open(path, "rb") as file:
            key = file.read().strip()
    except OSError as error:
        raise user_error(
            found=f"no readable hash key at {path} ({error.strerror})",
            needed="a file with a random text",
            change="make one by: openssl rand -hex 32",
        ) from error
    if len(key) < SHORTEST_HASH_KEY:
        raise user_error(
            found=f"a hash key of {len(key)} characters in {path}",
            needed=f"at least {SHORTEST_HASH_KEY} random ones",
            change="make one by: openssl rand -hex 32",
        )
    return key


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _ends_within_a_line(path: str) -> bool:
    with open(path, "rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
