"""The stage's rows in partitions on the run's storage, by the place of their prompt: what belongs together is together,
and one partition behind the other is the order of all.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from presafe import storage
from presafe.align.examples.candidates import place
from presafe.records import schema
from presafe.storage.files import file_system

Row = TypeVar("Row")

ROWS = 4096
"""Prompts of a partition, about: as many texts, of each kind of row, are in a worker's memory."""
MOST = 1000
"""Partitions: a worker writes to all of them at once."""
BUFFER = 5 * 2**20
"""Bytes of each that wait for an object store: the least that it takes as a part; the default is ten times as many."""


@dataclass(frozen=True)
class Partitions:
    """`count` partitions in `folder`, for a seed."""

    folder: str
    seed: int
    count: int

    @classmethod
    def of(cls, folder: str, seed: int, rows: int) -> "Partitions":
        return cls(folder, seed, min(MOST, max(1, math.ceil(rows / ROWS))))

    def scatter(self, name: str, url: str, record: type, where: Any) -> None:
        """Write the rows of the Parquet file `url` for which the expression `where` holds, streamed."""
        columns = schema(record)
        with ExitStack() as stack:
            writers: dict[int, Any] = {}
            for batch in storage.stream_batches(url, columns.names, where):
                places = np.array([place(self.seed, own) for own in batch["prompt_id"].to_pylist()], np.uint64)
                parts = (places >> np.uint64(32)) * np.uint64(self.count) >> np.uint64(32)
                for part in np.unique(parts).tolist():
                    if part not in writers:
                        file = stack.enter_context(_created(self._file(name, part)))
                        writers[part] = stack.enter_context(pa.ipc.new_stream(file, columns))
                    rows = batch.filter(pa.array(parts == part))
                    writers[part].write_batch(rows.cast(columns))

    def rows(self, name: str, part: int, record: type[Row]) -> Iterator[Row]:
        """The rows of one partition."""
        url = self._file(name, part)
        if storage.exists(url):
            fs, path = file_system(url)
            with fs.open(path, "rb") as file, pa.ipc.open_stream(file) as batches:
                for batch in batches:
                    yield from (record(**row) for row in batch.to_pylist())

    def candidates(self, part: int) -> str:
        """Where the candidates of a partition are kept."""
        return storage.join(self.folder, "candidates", f"{part:05}.parquet")

    def _file(self, name: str, part: int) -> str:
        return storage.join(self.folder, name, f"{part:05}.arrow")


def _created(url: str) -> Any:
    fs, path = file_system(url)
    fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    return fs.open(path, "wb", block_size=BUFFER)
