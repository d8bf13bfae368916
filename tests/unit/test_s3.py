"""Storage and the one writer on an S3 API: what holds on a disk holds there, between processes too."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import fsspec
import pytest
from s3_server import s3_server

from presafe import storage, writer
from presafe.align.examples.partitions import BUFFER, Partitions, _created
from presafe.content import Contents
from presafe.errors import UserError
from presafe.failed_rows import hashes, take_back
from presafe.records import Trace
from presafe.writer import FILE, sole_writer

WRITER = """
import sys
from presafe import writer
from presafe.errors import UserError

writer.BEAT_S, writer.LOOK_S = 0.2, 0.1
print("ready", flush=True)
sys.stdin.readline()
try:
    with writer.sole_writer(sys.argv[1]):
        print("writes", flush=True)
        sys.stdin.readline()
except UserError as error:
    print(error, flush=True)
"""

ROWS = [Trace(f"p{k}", "thought" * k, "answer", "stop", k) for k in range(10)]


@pytest.fixture(scope="module", autouse=True)
def _bucket() -> Iterator[None]:
    with s3_server() as environment, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("bucket")
        yield


@pytest.fixture
def root(request) -> str:
    """A folder of the test's own, without what stands for several names in a pattern."""
    return f"s3://bucket/{re.sub('[^a-z]+', '-', request.node.name)}"


@pytest.fixture
def writers() -> Iterator[list["subprocess.Popen[str]"]]:
    """For processes that the test starts, killed with it."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def start(writers: list["subprocess.Popen[str]"], root: str, count: int) -> None:
    command = [sys.executable, "-c", WRITER, root]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers += [subprocess.Popen(command, **pipes) for _ in range(count)]
    for process in writers:
        assert process.stdout.readline() == "ready\n"
    for process in writers:
        process.stdin.write("go\n")
        process.stdin.flush()


def test_of_six_writers_at_once_one_writes_and_five_are_told_who(root, writers):
    start(writers, root, 6)
    said = {process.pid: process.stdout.readline() for process in writers}
    (winner,) = [pid for pid, line in said.items() if line == "writes\n"]
    others = [line for pid, line in said.items() if pid != winner]
    assert all(f"another writer of {root}: process {winner} on " in line for line in others), others
    assert storage.read_json(f"{root}/{FILE}")["pid"] == winner


@pytest.mark.parametrize("machine", ["the same", "another"])
def test_the_place_of_a_killed_writer_is_taken(root, writers, monkeypatch, machine):
    start(writers, root, 1)
    assert writers[0].stdout.readline() == "writes\n"
    silence = 0.0
    if machine == "another":
        silence = 3.0
        monkeypatch.setattr(writer, "_machine", lambda: "another")
        monkeypatch.setattr(writer, "SILENCE_S", silence)
        with pytest.raises(UserError, match=f"process {writers[0].pid} on .*alive"), sole_writer(root):
            pytest.fail("wrote beside the other one")
    writers[0].kill()
    writers[0].wait()
    began = time.monotonic()
    with sole_writer(root):
        assert time.monotonic() - began >= silence, "it might have lived"
        assert storage.read_json(f"{root}/{FILE}")["pid"] == os.getpid()
    assert not storage.exists(f"{root}/{FILE}")


def test_one_of_two_creates_a_file(root):
    assert storage.create(f"{root}/file", "first")
    assert not storage.create(f"{root}/file", "second")
    assert storage.read_text(f"{root}/file") == "first"


def test_files_are_written_read_listed_and_removed(root):
    storage.make_folder(root)
    storage.write_text(f"{root}/a/text", "één\ntwo\n")
    storage.write_json(f"{root}/a/value.json", {"one": 1})
    storage.write_jsonl(f"{root}/rows.jsonl", [{"k": 1}, {"k": 2}])
    assert storage.names(root) == ["a", "rows.jsonl"]
    assert storage.names(f"{root}/a") == ["text", "value.json"], "no partial file is left"
    assert storage.read_lines(f"{root}/a/text") == ["één", "two"]
    assert storage.read_json(f"{root}/a/value.json") == {"one": 1}
    assert storage.size(f"{root}/a/text") == len("één\ntwo\n".encode())
    assert storage.read_beginning(f"{root}/rows.jsonl", 7) == b'{"k": 1'
    before = storage.stamps(root)
    assert before.keys() == {"a/text", "a/value.json", "rows.jsonl"}
    known = storage.hash_file(f"{root}/a/text")
    storage.write_text(f"{root}/a/text", "one\ntwo\n")
    assert storage.hash_file(f"{root}/a/text") != known
    assert {name for name, stamp in storage.stamps(root).items() if stamp != before[name]} == {"a/text"}
    storage.remove(f"{root}/a")
    storage.remove(f"{root}/missing")
    assert not storage.exists(f"{root}/a/text")
    assert storage.names(root) == ["rows.jsonl"]
    with pytest.raises(FileNotFoundError):
        storage.read_text(f"{root}/a/text")


def test_rows_are_written_counted_streamed_and_taken_back(root, monkeypatch):
    monkeypatch.setattr(storage, "CHUNK", 4)
    assert storage.write_rows(f"{root}/rows/0.parquet", iter(ROWS[:6]), Trace) == 6
    storage.write_rows(f"{root}/rows/1.parquet", ROWS[6:], Trace)
    assert storage.read_rows(f"{root}/rows", Trace) == ROWS
    assert list(storage.stream_rows(f"{root}/rows", Trace)) == ROWS
    assert storage.count_rows(f"{root}/rows") == len(ROWS)
    assert [row["num_tokens"] for row in storage.stream_dicts(f"{root}/rows")] == [*range(10)]
    storage.write_rows(f"{root}/reversed.parquet", ROWS[::-1], Trace)
    of_rows = Contents(f"{root}/memory.json").of_rows
    assert of_rows(f"{root}/rows") == of_rows(f"{root}/reversed.parquet")


def test_what_another_process_writes_is_seen(root, tmp_path):
    """A driver looks into a folder before its workers write into it."""
    storage.write_rows(f"{root}/rows/0.parquet", ROWS[:5], Trace)
    assert storage.names(f"{root}/rows") == ["0.parquet"]
    assert storage.count_rows(f"{root}/rows") == 5
    assert not storage.exists(f"{root}/rows/1.parquet")
    storage.write_rows(str(tmp_path / "1.parquet"), ROWS[5:], Trace)
    upload = "import sys; from presafe import storage; storage.upload(*sys.argv[1:])"
    subprocess.run([sys.executable, "-c", upload, str(tmp_path), f"{root}/rows"], check=True)
    assert storage.exists(f"{root}/rows/1.parquet")
    assert storage.names(f"{root}/rows") == ["0.parquet", "1.parquet"]
    assert storage.count_rows(f"{root}/rows") == len(ROWS)


def test_rows_of_an_earlier_run_are_taken_back(root):
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    storage.write_rows(f"{root}/out/x-0.parquet", ROWS, Trace)
    table = storage.read_table(f"{root}/out", ["prompt_id"])
    fs, folder = fsspec.core.url_to_fs(f"{root}/checkpoint")
    pq.write_table(table, f"{folder}/x.parquet", filesystem=fs)
    asked, more = hashes(f"{root}/out", "prompt_id"), pc.field("num_tokens") > 6
    assert len(take_back(f"{root}/out", f"{root}/checkpoint", "prompt_id", asked, more)) == 7
    assert [row.num_tokens for row in storage.read_rows(f"{root}/out", Trace)] == [*range(7)]
    assert storage.count_rows(f"{root}/checkpoint") == 7


def test_a_folder_is_replaced_as_a_whole_and_fetched(root):
    for text in ("old", "new"):
        with storage.replacing_folder(f"{root}/model", "deep/weights") as local:
            for name in (text, "deep/weights"):
                os.makedirs(os.path.dirname(f"{local}/{name}"), exist_ok=True)
                with open(f"{local}/{name}", "w") as file:
                    file.write(text)
    assert storage.names(root) == ["model"]
    fetched = storage.local_folder(f"{root}/model")
    assert sorted(os.listdir(fetched)) == ["deep", "new"]
    with open(f"{fetched}/deep/weights") as file:
        assert file.read() == "new"
    with pytest.raises(ZeroDivisionError), storage.replacing_folder(f"{root}/model", "deep/weights"):
        _ = 1 / 0
    assert storage.names(f"{root}/model") == ["deep", "new"]


def test_a_folder_is_copied_with_what_is_in_its_folders(root):
    for name in ("source/deep/a.txt", "source/b.txt", "target/old.txt"):
        storage.write_text(f"{root}/{name}", name)
    storage.copy_folder(f"{root}/source", f"{root}/target")
    assert {*storage.stamps(f"{root}/target")} == {"deep/a.txt", "b.txt"}
    assert storage.read_text(f"{root}/target/deep/a.txt") == "source/deep/a.txt"


def test_partitions_come_back_and_keep_little_of_each_in_memory(root):
    """A worker writes to a thousand of them at once."""
    storage.write_rows(f"{root}/rows.parquet", ROWS, Trace)
    partitions = Partitions(f"{root}/partitions", seed=0, count=3)
    partitions.scatter("traces", f"{root}/rows.parquet", Trace, None)
    found = [list(partitions.rows("traces", part, Trace)) for part in range(3)]
    assert sum(map(bool, found)) > 1
    assert sorted(row.prompt_id for rows in found for row in rows) == sorted(row.prompt_id for row in ROWS)
    with _created(f"{root}/open.arrow") as file:
        file.write(b"x" * (BUFFER + 1))
        assert file.buffer.tell() < BUFFER
