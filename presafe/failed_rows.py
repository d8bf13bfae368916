"""What an earlier run of a row job left: which rows it has done, and which of them are taken back.

Rows are taken back where a re-run does them again, or where they are asked for no more. Ray Data checkpoints the rows
of the data files `NAME-0.parquet`, ... in a file `NAME.parquet`, which is called `NAME.pending.parquet` until they are
written. A file is in that state while it is rewritten, too: where something dies in between, its whole block is done
again, and no row is lost or doubled.
"""

import logging
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from presafe import storage
from presafe.storage.files import file_system

logger = logging.getLogger("presafe")

PENDING = ".pending.parquet"
Hashes = NDArray[np.uint64]
"""Of ids, sorted: 8 bytes each, equal for the same ids in any order."""


def hashes(url: str, id_column: str) -> Hashes:
    """Of the ids in the Parquet file or folder at `url`; of none where it is not there or empty."""
    found = [_hashes(ids) for ids in storage.stream_column(url, id_column)] if _holds(url) else []
    return np.sort(np.concatenate([_hashes([]), *found]))


def asked_no_more(asked: Hashes, output: str, id_column: str) -> pc.Expression:
    """What holds for the rows at `output` whose ids are not among those asked for."""
    lacking: list[str] = []
    for ids in storage.stream_column(output, id_column) if _holds(output) else ():
        lacking += [ids[k] for k in np.flatnonzero(~_among(asked, _hashes(ids)))]
    return pc.field(id_column).isin(pa.array(lacking, pa.string()))


def not_done(inputs: str, columns: list[str], id_column: str, done: Hashes) -> Iterator[pa.Table]:
    """The rows at `inputs` whose ids are not among those that are done."""
    for table in storage.stream_tables(inputs, columns):
        yield table.filter(pa.array(~_among(done, _hashes(table[id_column].to_pylist()))))


def drop_pending(output: str, checkpoint: str) -> None:
    """Remove the data files of blocks that were being written when something died, and what the checkpoint has of them.

    A move in an object store is a copy and a removal: the checkpoint may have a block under both names.
    """
    names = storage.names(checkpoint) if storage.exists(checkpoint) else []
    pending = [name.removesuffix(PENDING) for name in names if name.endswith(PENDING)]
    files = storage.names(output) if pending else []
    for stem in pending:
        for name in files:
            if name.startswith(stem):
                storage.remove(storage.join(output, name))
        storage.remove(storage.join(checkpoint, f"{stem}.parquet"))
        storage.remove(storage.join(checkpoint, stem + PENDING))


def take_back(output: str, checkpoint: str, id_column: str, which: pc.Expression) -> int:
    """Remove the rows at `output` that `which` holds for, there and in the checkpoint; returns how many they were."""
    if not (_holds(output) and storage.exists(checkpoint)):
        return 0
    found = storage.read_table(output, ["__filename"], which)["__filename"].unique().to_pylist()
    files = sorted(path.rpartition("/")[2] for path in found)
    count = 0
    for name in storage.names(checkpoint) if files else ():
        stem = name.removesuffix(".parquet")
        if not name.endswith(PENDING) and any(file.startswith(stem) for file in files):
            own = [file for file in storage.names(output) if file.startswith(stem) and file.endswith(".parquet")]
            count += _rewritten(output, own, checkpoint, stem, id_column, which)
    if count:
        logger.info("%d row(s) of an earlier run are taken back", count)
    return count


def _holds(folder: str) -> bool:
    return storage.exists(folder) and bool(storage.names(folder))


def _hashes(ids: list[str]) -> Hashes:
    return np.array([*map(storage.short_hash, ids)], dtype=np.uint64)


def _among(known: Hashes, hashes: Hashes) -> NDArray[np.bool_]:
    return np.searchsorted(known, hashes, "left") < np.searchsorted(known, hashes, "right")


def _rewritten(output: str, files: list[str], checkpoint: str, stem: str, id_column: str, which: pc.Expression) -> int:
    """Of one checkpoint's data files; one block is in memory."""
    tables = {name: storage.read_table(storage.join(output, name)) for name in files}
    kept = {name: table.filter(~which) for name, table in tables.items()}
    dropped: int = sum(table.num_rows for table in tables.values()) - sum(table.num_rows for table in kept.values())
    fs, folder = file_system(checkpoint)
    committed, pending = (storage.join(folder, stem + suffix) for suffix in (".parquet", PENDING))
    fs.mv(committed, pending)
    ids = []
    for name, table in kept.items():
        path = storage.join(file_system(output)[1], name)
        if table.num_rows:
            _replace(storage.join(output, name), table)
            ids.append(table.select([id_column]))
        else:
            fs.rm(path)
    if ids:
        _replace(storage.join(checkpoint, stem + PENDING), pa.concat_tables(ids))
        fs.mv(pending, committed)
    else:
        fs.rm(pending)
    return dropped


def _replace(url: str, table: pa.Table) -> None:
    """On a disk written beside the folder, whose readers take all of its files, and moved into it."""
    if not storage.is_local(url):
        storage.write_tables(url, [table])
        return
    fs, path = file_system(url)
    partial = f"{path.rpartition('/')[0]}.rewritten"
    pq.write_table(table, partial)
    fs.mv(partial, path)
