"""Fingerprints: the same for the same content, in any order and at any place, another for any other."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc
import pytest

from hub_server import hub_server
from presafe import storage
from presafe.content import NONE, Contents, hub_commit
from presafe.records import Prompt

ROOT = Path(__file__).parents[2]
ROWS = [
    Prompt(f"p{k}", f"text {k} \u2028", "benign", "s", None, None, "evaluate" if k % 3 else "align", "c", None)
    for k in range(20)
]


@pytest.fixture
def contents(tmp_path):
    return Contents(str(tmp_path / "memory.json"))


def of_rows(contents, path, rows, **options):
    storage.write_rows(str(path), rows, Prompt)
    return contents.of_rows(str(path), **options)


def test_rows_in_any_order_and_any_files_are_the_same(contents, tmp_path):
    first = of_rows(contents, tmp_path / "a.parquet", ROWS)
    assert of_rows(contents, tmp_path / "b.parquet", ROWS[::-1]) == first
    storage.write_rows(str(tmp_path / "folder" / "1.parquet"), ROWS[5:], Prompt)
    storage.write_rows(str(tmp_path / "folder" / "0.parquet"), ROWS[:5], Prompt)
    assert contents.of_rows(str(tmp_path / "folder")) == first


@pytest.mark.parametrize(
    "rows",
    [ROWS[1:], ROWS + ROWS[:1], [replace(ROWS[0], category="new"), *ROWS[1:]], []],
    ids=["one fewer", "one twice", "one changed", "none"],
)
def test_other_rows_are_not(contents, tmp_path, rows):
    assert of_rows(contents, tmp_path / "a.parquet", ROWS) != of_rows(contents, tmp_path / "b.parquet", rows)


def test_of_some_rows_the_others_do_not_matter(contents, tmp_path):
    training = pc.field("split") != "evaluate"
    some = [row for row in ROWS if row.split != "evaluate"]
    first = of_rows(contents, tmp_path / "a.parquet", ROWS, where=training)
    assert of_rows(contents, tmp_path / "b.parquet", some, where=training) == first
    assert contents.of_rows(str(tmp_path / "a.parquet")) != first


def test_a_file_is_its_bytes(contents, tmp_path):
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).write_text(text)
    a, b, c = (contents.of_file(str(tmp_path / name)) for name in "abc")
    assert a == b != c
    assert contents.of_file(str(tmp_path / "none")) == NONE


def test_a_folder_is_its_files(contents, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "weights").write_bytes(b"w")
        (tmp_path / name / "README.md").write_text(name)
    out = frozenset({"README.md"})
    assert contents.of_folder(str(tmp_path / "a"), out) == contents.of_folder(str(tmp_path / "b"), out)
    assert contents.of_folder(str(tmp_path / "a")) != contents.of_folder(str(tmp_path / "b"))
    (tmp_path / "b" / "deep").rename(tmp_path / "b" / "other")
    assert contents.of_folder(str(tmp_path / "a"), out) != contents.of_folder(str(tmp_path / "b"), out)


def test_what_has_not_changed_is_not_read_again(contents, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    stat = path.stat()
    first = contents.of_file(str(path))
    path.write_bytes(b"two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as if nobody had written
    assert contents.of_file(str(path)) == first
    path.write_bytes(b"two")
    assert contents.of_file(str(path)) != first


def test_a_pinned_commit_is_itself_and_what_cannot_be_reached_is_none():
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert hub_commit("any/thing", commit, "dataset") == commit
    assert hub_commit("/no/name of the hub", None, "model") == NONE


def test_a_file_of_a_web_server_is_its_bytes_whatever_links_it_holds(contents):
    with hub_server() as server:
        server.plain = {"/a.csv": b'text\n<a href="/b.csv">b</a>\n', "/b.csv": b"text\nother\n"}
        a, b = (contents.of_file(f"{server.url}/{name}.csv") for name in "ab")
        assert a != b
        assert contents.of_file(f"{server.url}/c.csv") == NONE


def test_a_file_at_a_commit_is_not_asked_for(contents):
    first, second = (f"https://127.0.0.1:9/owner/name/{commit * 40}/rows.csv" for commit in "ab")
    assert NONE != contents.of_file(first) != contents.of_file(second) != NONE


def test_of_a_hub_that_does_not_answer_the_commit_is_none():
    """The client of the hub has exceptions of its own, which are no OSErrors."""
    program = "from presafe.content import hub_commit; print(hub_commit('a/b', None, 'model'))"
    environment = os.environ | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert ended.stdout.strip() == NONE, ended.stderr
