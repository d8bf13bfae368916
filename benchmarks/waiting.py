"""An actor of a row job that only waits: what is left is the job's own work. It imports little, so that many fit."""

import os
import time
from pathlib import Path

import pyarrow as pa

THOUGHT = "the user asks for a kite . " * 40


class Waiting:
    """Hands a block on after so many seconds, with a thought a row. It leaves a file once it has started."""

    def __init__(self, started: str, seconds: float) -> None:
        self._seconds = seconds
        Path(started, str(os.getpid())).touch()

    def __call__(self, batch: pa.Table) -> pa.Table:
        time.sleep(self._seconds)
        return thoughts(batch["id"])


def thoughts(ids: pa.Array) -> pa.Table:
    """The rows that come out."""
    return pa.table({"id": ids, "text": [THOUGHT] * len(ids), "num_tokens": [256] * len(ids)})
