"""The examples of a training rank: a few numbers of each in memory, sequences read as its own batches ask for them."""

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.train
import torch.distributed as dist
from numpy.typing import NDArray

from presafe import storage
from presafe.align.resume.agreed import agree
from presafe.records import Example, schema, to_table
from presafe.stages import content_hash

LOCAL = pa.schema(
    [field.with_type(pa.list_(pa.int32())) if pa.types.is_list(field.type) else field for field in schema(Example)]
)
"""Of the copy on a node's disk: token ids in half the space."""
Integers = NDArray[np.int32]


class ExampleRows:
    """Examples of an Arrow table, which may lie in a mapped file; the demonstrations come first.

    In memory are, of each row, tokens of the prompt and of the completion, weight, and whether there is a signal: 17
    bytes.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.prompt_tokens: Integers = _lengths(table, "prompt")
        self.completion_tokens: Integers = _lengths(table, "completion")
        self.weights: NDArray[np.float64] = table["weight"].to_numpy()
        self.signalled: NDArray[np.bool_] = pc.is_valid(table["refuse_probability"]).to_numpy()

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Self:
        return cls(to_table(list(examples), Example))

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Example:
        (row,) = self._table.slice(index, 1).to_pylist()
        return Example(**row)


def local_rows(url: str) -> ExampleRows:
    """The examples of the Parquet file `url`, in a copy on the node's disk that its ranks map. Every rank calls it.

    The copy loses its name once all have opened it: the disk is free again when they end, however they end. Raises
    AgreedError on every rank where a node's disk has no room for it.
    """
    name = f"presafe-examples-{ray.get_runtime_context().get_node_id()}-{content_hash(url)}.arrow"
    path, first = os.path.join(tempfile.gettempdir(), name), ray.train.get_context().get_local_rank() == 0
    error = None
    if first:
        try:
            copy_rows(url, path)
        except Exception as failed:
            with suppress(FileNotFoundError):
                os.remove(path)
            if not storage.is_full(failed):
                raise
            error = storage.full(tempfile.gettempdir())
    agree(error)
    rows = mapped_rows(path)
    dist.barrier()
    if first:
        os.remove(path)
    return rows


def copy_rows(url: str, path: str) -> None:
    """Write the examples of the Parquet file `url` as an Arrow file, a few at a time."""
    with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, LOCAL) as writer:
        for batch in storage.stream_batches(url, LOCAL.names):
            writer.write_batch(batch.cast(LOCAL))


def mapped_rows(path: str) -> ExampleRows:
    """The examples of such a file, which stays on the disk."""
    return ExampleRows(pa.ipc.open_file(pa.memory_map(path)).read_all())


def _lengths(table: pa.Table, column: str) -> Integers:
    return np.asarray(pc.list_value_length(table[column]).to_numpy(), np.int32)
