"""Copies of remote folders: once a node, no more than is read, gone with their last user; whole or not at all."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
import torch
from failing_proxy import FailingProxy, failing_proxy
from s3_server import s3_server

from presafe import storage
from presafe.decision.head import save_head
from presafe.engines.card import MARKER, HeadCard
from presafe.engines.exported import load_probe
from presafe.engines.model_files import local_texts, local_weights
from presafe.errors import UserError
from presafe.storage import downloads

USER = """
import os, sys
from presafe import storage
print("ready", flush=True)
sys.stdin.readline()
print(sorted(os.listdir(storage.local_folder(sys.argv[1]))), flush=True)
sys.stdin.readline()
if sys.argv[2:] == ["raises"]:
    raise RuntimeError("in the middle of its work")
"""


@pytest.fixture(scope="module")
def proxy() -> Iterator[FailingProxy]:
    with (
        s3_server() as environment,
        pytest.MonkeyPatch.context() as patch,
        failing_proxy(environment["AWS_ENDPOINT_URL"]) as proxy,
    ):
        for name, value in (environment | {"AWS_ENDPOINT_URL": proxy.url}).items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("bucket")
        yield proxy


@pytest.fixture(autouse=True)
def node(tmp_path, monkeypatch) -> Path:
    """A temporary folder of the test's own, as a node has it."""
    folder = tmp_path / "node"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(downloads, "_held", {})
    return folder


@pytest.fixture
def users() -> Iterator[list["subprocess.Popen[str]"]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def start(users: list["subprocess.Popen[str]"], url: str, *arguments: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", USER, url, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    users.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go_on(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def model(url: str) -> None:
    for name in ("config.json", "tokenizer.json", "model.safetensors", "original/old.pth", "extra/template.jinja"):
        storage.write_text(f"{url}/{name}", name)


def asked(proxy: FailingProxy, name: str) -> int:
    return sum(request.startswith("GET ") and name in request for request in proxy.requests)


def left(node: Path) -> list[str]:
    return sorted(path.name for path in node.rglob("*") if not path.name.startswith("presafe-downloads-"))


def test_of_processes_that_start_at_once_one_downloads_and_the_last_one_removes(proxy, users, node):
    url = "s3://bucket/shared"
    model(url)
    proxy.requests.clear()
    every = [start(users, url) for _ in range(3)]
    for process in every:
        go_on(process)
    said = {process.stdout.readline() for process in every}
    assert len(said) == 1
    assert "model.safetensors" in said.pop()
    assert asked(proxy, "model.safetensors") == 1
    for process in every[:2]:
        go_on(process)
        process.wait()
    assert "model.safetensors" in left(node), "one still uses it"
    go_on(every[2])
    every[2].wait()
    assert left(node) == []


def test_it_goes_with_a_process_that_ends_by_an_exception(users, node):
    model("s3://bucket/raises")
    process = start(users, "s3://bucket/raises", "raises")
    go_on(process)
    assert "config.json" in process.stdout.readline()
    go_on(process)
    assert process.wait() == 1
    assert left(node) == []


def test_what_a_killed_process_left_goes_with_the_next_download(users, node):
    model("s3://bucket/killed")
    model("s3://bucket/next")
    process = start(users, "s3://bucket/killed")
    go_on(process)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "model.safetensors" in left(node)
    following = start(users, "s3://bucket/next")
    go_on(following)
    following.stdout.readline()
    (folder,) = [path for path in node.glob("*/*") if path.is_dir()]
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "extra",
        "model.safetensors",
        "original",
        "tokenizer.json",
    ]


def test_configuration_and_tokenizer_come_without_the_weights(proxy):
    model("s3://bucket/parts")
    proxy.requests.clear()
    texts = local_texts("s3://bucket/parts")
    assert left(Path(texts)) == ["config.json", "extra", "template.jinja", "tokenizer.json"]
    assert "model.safetensors" in left(Path(local_weights("s3://bucket/parts")))
    assert asked(proxy, "old.pth") == 0
    assert asked(proxy, "model.safetensors") == 1


def test_the_head_of_an_export_comes_alone(proxy, tmp_path):
    model("s3://bucket/export")
    save_head({"weight": torch.ones(1, 4), "bias": torch.zeros(1)}, str(tmp_path / "safety_head.safetensors"))
    storage.upload(str(tmp_path), "s3://bucket/export")
    proxy.requests.clear()
    head = load_probe("s3://bucket/export", HeadCard())
    assert head is not None
    assert head(torch.ones(4)).item() == 4
    assert sum(request.startswith("GET /bucket/export/") for request in proxy.requests) == 1


def test_a_folder_that_was_replaced_is_downloaded_again():
    for text in ("old", "new"):
        storage.write_text("s3://bucket/again/file", text)
        with open(f"{storage.local_folder('s3://bucket/again')}/file") as file:
            assert file.read() == text


def test_a_folder_without_files_is_told():
    with pytest.raises(UserError, match=r"^found no file in s3://bucket/nothing; needed"):
        storage.local_folder("s3://bucket/nothing")


SMALL_DISK = """
import resource, signal, sys
from presafe import storage
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
storage.local_folder(sys.argv[1])
"""


def test_a_disk_that_is_full_is_one_sentence_and_nothing_is_left(node):
    """A limit on a file's size stands in for the disk's: EFBIG for ENOSPC, at the same write."""
    storage.write_text("s3://bucket/large/model.safetensors", "x" * 2**20)
    command = [sys.executable, "-c", SMALL_DISK, "s3://bucket/large"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"UserError: found no room in {node}/presafe-downloads-" in ended.stderr.splitlines()[-1]
    assert [name for name in left(node) if not name.endswith((".lock", ".download"))] == []
    model("s3://bucket/small")
    storage.local_folder("s3://bucket/small")
    assert not any("safetensors" in name and "large" in name for name in left(node))


def fill(url: str, size: int, marker: str = MARKER) -> None:
    with storage.replacing_folder(url, marker) as local:
        storage.write_text(f"{local}/{MARKER}", "card")
        storage.write_text(f"{local}/weights", "x" * size)


@pytest.mark.parametrize("kind", ["disk", "s3"])
def test_a_folder_that_does_not_fit_is_one_sentence_and_nothing_changes(tmp_path, node, kind):
    url = str(tmp_path / "model") if kind == "disk" else "s3://bucket/model"
    fill(url, 10)
    before = storage.stamps(url)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**12, hard))
    try:
        with pytest.raises(UserError, match=f"^found no room in {tmp_path if kind == 'disk' else node} of node"):
            fill(url, 2**13)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)
    assert storage.stamps(url) == before
    assert left(node) == []
    assert not storage.exists(f"{url}.partial")


def test_the_marker_goes_first_and_comes_last(proxy):
    url = "s3://bucket/whole"
    fill(url, 10)
    with pytest.raises(FileNotFoundError):  # an upload that breaks off before its last file
        fill(url, 20, marker="not there")
    storage.write_text(f"{url}/stale", "of the model before")
    proxy.requests.clear()
    fill(url, 30)
    assert storage.names(url) == [MARKER, "weights"]
    changes = [line for line in proxy.requests if line.startswith(("PUT", "POST", "DELETE"))]
    assert [line.split("?")[0] for line in (changes[-2], changes[-1])] == [
        "PUT /bucket/whole/weights",
        f"PUT /bucket/whole/{MARKER}",
    ]
    assert not any(line.startswith("PUT") for line in changes[:-2]), "the marker goes before anything is written"
    assert not any("copy" in line.lower() for line in changes)


@pytest.mark.parametrize("kind", ["disk", "s3"])
def test_processes_of_one_number_on_several_nodes_write_one_file(tmp_path, kind):
    """Threads have one process number, as processes of several nodes may have."""
    url = str(tmp_path / "file") if kind == "disk" else "s3://bucket/many/file"
    begin = threading.Barrier(8)

    def write(k: int) -> None:
        begin.wait()
        for _ in range(10):
            storage.write_text(url, f"{k}" * 1000)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    assert len(set(storage.read_text(url))) == 1
    assert storage.names(os.path.dirname(url)) in (["file"], ["file", "node"])
