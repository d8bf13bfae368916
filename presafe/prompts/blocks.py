"""Rows on their way through the stage: files of so many rows each that no process holds all of them."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import ray.data

from presafe import storage
from presafe.config import Cluster
from presafe.rowjob import quiet_data
from presafe.runtime import connect, user_errors

Row = TypeVar("Row")
Item = TypeVar("Item", str, int)


class BlockWriter(Generic[Row]):
    """Writes rows, instances of `record`, into files of `size` rows each, whose names sort in the order of the rows."""

    def __init__(self, folder: str, record: type[Row], size: int) -> None:
        self._folder, self._record, self._size = folder, record, size
        self._rows, self._written = list[Row](), 0

    def __len__(self) -> int:
        return self._written + len(self._rows)

    def append(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) == self._size:
            self.close()

    def close(self) -> None:
        """Write what is left."""
        if self._rows:
            name = block_name(self._written // self._size)
            storage.write_rows(storage.join(self._folder, name), self._rows, self._record)
            self._written += len(self._rows)
            self._rows = []


def block_name(number: int) -> str:
    return f"{number:06d}.parquet"


def blocks(folder: str) -> list[str]:
    """The names of a folder's files, in the order of their rows; none where there is no folder."""
    return [name for name in storage.names(folder) if name.endswith(".parquet")] if storage.exists(folder) else []


def for_each(items: Sequence[Item], function: Callable[[Item], Any], cluster: Cluster | None) -> list[Any]:
    """What `function` gives for each item, in their order: here, or on Ray Data where there is a `cluster`.

    What it gives is small; rows go through files.
    """
    if cluster is None:
        return [function(item) for item in items]
    connect(cluster)
    quiet_data()
    numbered = [{"number": number, "item": item} for number, item in enumerate(items)]
    dataset = ray.data.from_items(numbered, override_num_blocks=len(numbered)).map(partial(_call, function))
    with user_errors():
        results = {row["number"]: row["result"] for row in dataset.iter_rows()}
    return [results[number] for number in range(len(items))]


def _call(function: Callable[[Any], Any], row: dict[str, Any]) -> dict[str, Any]:
    return {"number": row["number"], "result": function(row["item"])}


def tables(folder: str, columns: list[str] | None = None) -> Iterator[Any]:
    """The tables of a folder's files, one after the other."""
    for name in blocks(folder):
        yield storage.read_table(storage.join(folder, name), columns)
