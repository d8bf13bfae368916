"""Rows of an earlier run that are taken back: a re-run does them again, or they are asked for no more.

Ray Data checkpoints the rows of the data files `NAME-0.parquet`, ... in a file `NAME.parquet`, and removes data files
whose checkpoint is still called `NAME.pending.parquet`. So a file is in that state while it is rewritten: where
something dies in between, its whole block is done again, and no row is lost or doubled.
"""

import logging

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from presafe import storage

logger = logging.getLogger("presafe")

PENDING = ".pending.parquet"


def take_back(output: str, checkpoint: str, id_column: str, which: pc.Expression) -> int:
    """Remove the rows at `output` that `which` holds for, there and in the checkpoint; returns how many they were."""
    if not (storage.exists(output) and storage.exists(checkpoint)):
        return 0
    files = [name for name in storage.names(output) if name.endswith(".parquet")]
    count = 0
    for name in storage.names(checkpoint):
        stem = name.removesuffix(".parquet")
        if not name.endswith(PENDING):  # Ray itself removes the files of those
            count += _rewritten(output, [f for f in files if f.startswith(stem)], checkpoint, stem, id_column, which)
    if count:
        logger.info("%d row(s) of an earlier run are taken back", count)
    return count


def asked_no_more(inputs: str, output: str, id_column: str) -> pc.Expression:
    """What holds for the rows at `output` whose id no row at `inputs` has.

    Memory, while there is an output: 8 bytes a row of the inputs, and the ids that they lack.
    """
    lacking: list[str] = []
    if storage.exists(output) and storage.names(output):
        asked = np.sort(np.concatenate([_hashes([]), *map(_hashes, storage.stream_column(inputs, id_column))]))
        for ids in storage.stream_column(output, id_column):
            hashes = _hashes(ids)
            known = np.searchsorted(asked, hashes, "left") < np.searchsorted(asked, hashes, "right")
            lacking += [ids[k] for k in np.flatnonzero(~known)]
    return pc.field(id_column).isin(pa.array(lacking, pa.string()))


def _hashes(ids: list[str]) -> np.ndarray:
    return np.array([*map(storage.short_hash, ids)], dtype=np.uint64)


def _rewritten(output: str, files: list[str], checkpoint: str, stem: str, id_column: str, which: pc.Expression) -> int:
    """Of one checkpoint's data files; one block is in memory."""
    tables = {name: storage.read_table(storage.join(output, name)) for name in files}
    kept = {name: table.filter(~which) for name, table in tables.items()}
    dropped: int = sum(table.num_rows for table in tables.values()) - sum(table.num_rows for table in kept.values())
    if not dropped:
        return 0
    fs, folder = fsspec.core.url_to_fs(checkpoint)
    committed, pending = (storage.join(folder, stem + suffix) for suffix in (".parquet", PENDING))
    fs.mv(committed, pending)
    ids = []
    for name, table in kept.items():
        path = storage.join(fsspec.core.url_to_fs(output)[1], name)
        if table.num_rows:
            _replace(fs, path, table)
            ids.append(table.select([id_column]))
        else:
            fs.rm(path)
    if ids:
        _replace(fs, pending, pa.concat_tables(ids))
        fs.mv(pending, committed)
    else:
        fs.rm(pending)
    return dropped


def _replace(fs: fsspec.AbstractFileSystem, path: str, table: pa.Table) -> None:
    """Written beside the folder, whose readers take all of its files, and moved into it."""
    partial = f"{path.rpartition('/')[0]}.rewritten"
    pq.write_table(table, partial, filesystem=fs)
    fs.mv(partial, path)
