"""Failed rows are taken out of a job's output and checkpoint; whatever dies meanwhile loses or doubles no row."""

import json
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from presafe import storage
from presafe.failed_rows import PENDING, Hashes, drop_pending, hashes, not_done, take_back

FAILED = pc.field("error").is_valid()
EVERY = ["a-0", "a-1", "a-2", "a-3", "b-0", "b-1", "c-0"]
SCHEMA = pa.schema([("task_id", pa.string()), ("error", pa.string())])


def block(root: Path, name: str, errors: list[str | None], files: int = 1) -> None:
    """What Ray Data leaves of a finished block: its data files, and their ids in its checkpoint."""
    rows = [{"task_id": f"{name}-{k}", "error": error} for k, error in enumerate(errors)]
    for folder in ("output", "checkpoint"):
        (root / folder).mkdir(exist_ok=True)
    size = -(-len(rows) // files)
    for k in range(files):
        part = pa.Table.from_pylist(rows[k * size : (k + 1) * size], SCHEMA)
        pq.write_table(part, root / "output" / f"{name}-{k}.parquet")
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA).select(["task_id"]), root / "checkpoint" / f"{name}.parquet")


def ids(root: Path, folder: str) -> list[str]:
    """Of the files that Ray Data would go on from: a pending checkpoint and its data files are removed first."""
    pending = [path.name.removesuffix(PENDING) for path in (root / "checkpoint").glob(f"*{PENDING}")]
    files = [
        path for path in sorted((root / folder).glob("*.parquet")) if not any(path.name.startswith(p) for p in pending)
    ]
    return [value for path in files for value in pq.read_table(path)["task_id"].to_pylist()]


def two_blocks(root: Path) -> None:
    block(root, "a", [None, "failed", None, "failed"], files=2)
    block(root, "b", [None, None])
    block(root, "c", ["failed"])


def take(root: Path, asked: list[str] = EVERY) -> set[int]:
    return {*take_back(str(root / "output"), str(root / "checkpoint"), "task_id", of(asked), FAILED).tolist()}


def of(ids: list[str]) -> Hashes:
    return np.sort(np.array([*map(storage.short_hash, ids)], np.uint64))


def test_failed_rows_are_taken_back_and_the_others_stay(tmp_path):
    two_blocks(tmp_path)
    untouched = (tmp_path / "output" / "b-0.parquet").stat().st_mtime_ns
    assert take(tmp_path) == {*of(["a-0", "a-2", "b-0", "b-1"])}
    assert ids(tmp_path, "output") == ids(tmp_path, "checkpoint") == ["a-0", "a-2", "b-0", "b-1"]
    assert (tmp_path / "output" / "b-0.parquet").stat().st_mtime_ns == untouched
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "output"]
    assert take(tmp_path) == {*of(["a-0", "a-2", "b-0", "b-1"])}


def test_nothing_is_there_to_take_back_before_the_first_run(tmp_path):
    assert take(tmp_path) == set()
    (tmp_path / "output").mkdir()
    assert take(tmp_path) == set()


def test_a_block_that_ray_itself_will_remove_is_left_to_it(tmp_path):
    two_blocks(tmp_path)
    (tmp_path / "checkpoint" / "a.parquet").rename(tmp_path / "checkpoint" / f"a{PENDING}")
    assert take(tmp_path) == {*of(["a-0", "a-1", "a-2", "a-3", "b-0", "b-1"])}, "what is there"
    assert ids(tmp_path, "output") == ids(tmp_path, "checkpoint") == ["b-0", "b-1"]


@pytest.mark.parametrize("step", range(9))
def test_dying_at_any_step_loses_and_doubles_no_row(tmp_path, monkeypatch, step):
    """Each write, move and removal in turn is the last that happens."""
    two_blocks(tmp_path)
    fs = fsspec.filesystem("file")
    done = []

    def dying(method):
        def call(*arguments, **options):
            if len(done) == step:
                raise KeyboardInterrupt
            done.append(json.dumps([str(argument)[-40:] for argument in arguments]))
            return method(*arguments, **options)

        return call

    for name in ("mv", "rm"):
        monkeypatch.setattr(type(fs), name, dying(getattr(type(fs), name)))
    died = False
    try:
        take(tmp_path)
    except KeyboardInterrupt:
        died = True
    assert died == (step < 8)  # five moves of block a, a move and two removals of block c
    assert ids(tmp_path, "output") == ids(tmp_path, "checkpoint")


def test_rows_that_the_inputs_have_no_more_are_told_from_the_others(tmp_path):
    two_blocks(tmp_path)
    inputs = str(tmp_path / "inputs.parquet")
    pq.write_table(pa.table({"task_id": ["a-0", "b-1", "new"]}), inputs)
    asked = hashes(inputs, "task_id")
    output, checkpoint = str(tmp_path / "output"), str(tmp_path / "checkpoint")
    assert {*take_back(output, checkpoint, "task_id", asked, FAILED)} == {*of(["a-0", "b-1"])}
    assert ids(tmp_path, "output") == ids(tmp_path, "checkpoint") == ["a-0", "b-1"]
    assert {*take_back(output, checkpoint, "task_id", of(["a-0"]))} == {*of(["a-0"])}
    assert ids(tmp_path, "output") == ids(tmp_path, "checkpoint") == ["a-0"]
    assert not len(take_back(str(tmp_path / "none"), checkpoint, "task_id", asked))


def test_what_was_being_written_goes_and_the_rows_of_it_are_left_to_do(tmp_path):
    two_blocks(tmp_path)
    checkpoint, output = tmp_path / "checkpoint", str(tmp_path / "output")
    (checkpoint / f"a{PENDING}").write_bytes((checkpoint / "a.parquet").read_bytes())  # half of a move in a store
    drop_pending(output, str(checkpoint))
    assert sorted(path.name for path in checkpoint.iterdir()) == ["b.parquet", "c.parquet"]
    assert ids(tmp_path, "output") == ids(tmp_path, "checkpoint") == ["b-0", "b-1", "c-0"]
    inputs = str(tmp_path / "inputs.parquet")
    pq.write_table(pa.table({"task_id": ["a-0", "b-0", "a-1", "c-0"], "text": [*"wxyz"]}), inputs)
    left = pa.concat_tables(not_done(inputs, ["task_id", "text"], "task_id", hashes(output, "task_id")))
    assert left.to_pydict() == {"task_id": ["a-0", "a-1"], "text": ["w", "y"]}
