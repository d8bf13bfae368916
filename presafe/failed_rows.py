"""What an earlier run of a row job left: which rows it has done, and which of them are taken back.

Rows are taken back where a re-run does them again, or where they are asked for no more. Ray Data checkpoints the rows
of the data files `NAME-0.parquet`, ... in a file `NAME.parquet`, which is called `NAME.pending.parquet` until they are
written. A file is in that state while it is rewritten, too: where something dies in between, its whole block is done
again, and no row is lost or doubled.
"""

import logging
from collections.abc import Iterable, Iterator

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
    if not _holds(url):
        return _hashes([])
    return _sorted(_hashes(ids) for ids in storage.stream_column(url, id_column))


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


def take_back(
    output: str, checkpoint: str, id_column: str, asked: Hashes, again: pc.Expression | None = None
) -> Hashes:
    """Remove the rows at `output` that are asked for no more or that `again` holds for, there and in the checkpoint.

    Returns the ids of those that stay. Every file is read once.
    """
    if not _holds(output):
        return _hashes([])
    columns = {"id": pc.field(id_column), "again": pc.scalar(False) if again is None else again}
    stay, lacking, files = list[Hashes](), list[str](), set[str]()
    for file, batch in storage.stream_by_file(output, columns):
        ids = batch["id"].to_pylist()
        found, taken = _hashes(ids), pc.fill_null(batch["again"], False).to_numpy(zero_copy_only=False)
        wanted = _among(asked, found)
        stay.append(found[wanted & ~taken])
        lacking += [ids[k] for k in np.flatnonzero(~wanted)]
        if (~wanted | taken).any():
            files.add(file)
    gone = pc.field(id_column).isin(pa.array(lacking, pa.string()))
    if files and not _taken_out(output, files, checkpoint, id_column, gone if again is None else gone | again):
        return hashes(output, id_column)
    return _sorted(stay)


def _taken_out(output: str, files: set[str], checkpoint: str, id_column: str, which: pc.Expression) -> bool:
    """Out of these files, as far as their blocks have ended; whether all had."""
    count, committed = 0, set(storage.names(checkpoint) if storage.exists(checkpoint) else ())
    stems = {_stem(file) for file in files}
    ended = {stem for stem in stems if f"{stem}.parquet" in committed}
    blocks: dict[str, list[str]] = {stem: [] for stem in sorted(ended)}
    for file in storage.names(output) if ended else ():
        if _stem(file) in ended:
            blocks[_stem(file)].append(file)
    for stem, own in blocks.items():
        count += _rewritten(output, own, checkpoint, stem, id_column, which)
    logger.info("%d row(s) of an earlier run are taken back", count)
    return stems == ended


def _stem(file: str) -> str:
    """Of the name of a data file."""
    return file.rpartition("-")[0]


def _holds(folder: str) -> bool:
    return storage.exists(folder) and bool(storage.names(folder))


def _sorted(parts: Iterable[Hashes]) -> Hashes:
    return np.sort(np.concatenate([_hashes([]), *parts]))


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
