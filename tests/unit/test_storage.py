"""Storage by URL: the same calls on a local folder and on another filesystem."""

import sys

import fsspec
import pytest

from presafe import storage
from presafe.errors import UserError
from presafe.records import Signal, prompt_id

ROWS = [Signal(prompt_id("a"), 0.25, "comply", 0.0, True), Signal(prompt_id("b"), 0.75, "refuse", None, False)]


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path):
    yield str(tmp_path) if request.param == "local" else "memory://bucket"
    fsspec.filesystem("memory").store.clear()


def test_rows_and_json_come_back_as_written(root):
    storage.write_rows(f"{root}/a/rows.parquet", ROWS, Signal)
    storage.write_json(f"{root}/a/value.json", {"b": [1, 2]})
    assert storage.read_rows(f"{root}/a/rows.parquet", Signal) == ROWS
    assert storage.read_json(f"{root}/a/value.json") == {"b": [1, 2]}
    assert storage.names(f"{root}/a") == ["rows.parquet", "value.json"], "nothing partial is left"
    storage.write_json(f"{root}/a/value.json", {})
    assert storage.read_json(f"{root}/a/value.json") == {}
    storage.remove(f"{root}/a")
    assert not storage.exists(f"{root}/a")
    storage.remove(f"{root}/a")


def test_a_folder_is_uploaded_and_found_again_locally(root, tmp_path):
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "inner/file").write_text("x")
    storage.upload(str(source), f"{root}/model")
    local = storage.local_folder(f"{root}/model")
    assert storage.read_text(f"{local}/inner/file") == "x"


def test_a_folder_is_copied_in_place_of_another_and_changes_apart_from_it(root):
    for name, text in (("source/deep/a.txt", "a"), ("source/b.txt", "b"), ("target/old.txt", "old")):
        storage.make_folder(f"{root}/{name}".rpartition("/")[0])
        storage.write_text(f"{root}/{name}", text)
    storage.copy_folder(f"{root}/source", f"{root}/target")
    assert {*storage.stamps(f"{root}/target")} == {"deep/a.txt", "b.txt"}
    storage.write_text(f"{root}/target/b.txt", "another")
    storage.remove(f"{root}/source/deep")
    assert storage.read_text(f"{root}/source/b.txt") == "b"
    assert storage.read_text(f"{root}/target/deep/a.txt") == "a"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nothing://x", "needed a filesystem of that name on every node; correct the URL"),
        ("gs://bucket/x", r"needed presafe\[gcs\] on every node; pip install 'presafe\[gcs\]'"),
        ("s3://bucket/x", r"needed presafe\[s3\] on every node; pip install 'presafe\[s3\]'"),
    ],
)
def test_a_filesystem_that_is_not_there_is_named(url, told, monkeypatch):
    for package in ("gcsfs", "s3fs", "s3fs.core"):  # as if they were not installed
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "presafe.storage.s3", raising=False)
    with pytest.raises(UserError, match=f"found the storage {url}, .*; {told}"):
        storage.exists(url)


def test_a_broken_json_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        storage.read_json(str(tmp_path / "x.json"))


def half_replace(url):
    with storage.replacing_folder(url, "deep/new.txt") as local:
        storage.write_text(f"{local}/new.txt", "half")
        raise RuntimeError("no more")


def test_a_folder_is_replaced_whole_or_not_at_all(root):
    url = f"{root}/run/model"
    storage.write_text(f"{url}/old.txt", "old")
    with pytest.raises(RuntimeError, match="no more"):
        half_replace(url)
    assert storage.names(url) == ["old.txt"]
    with storage.replacing_folder(url, "deep/new.txt") as local:
        storage.write_text(f"{local}/deep/new.txt", "new")
        assert storage.names(url) == ["old.txt"]
    assert storage.names(url) == ["deep"]
    assert storage.read_text(f"{url}/deep/new.txt") == "new"
    assert storage.names(f"{root}/run") == ["model"]
