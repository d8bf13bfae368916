"""A store that fails for a while has no effect; what lasts is one sentence. The store is behind a proxy that fails."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest
from failing_proxy import FailingProxy, failing_proxy
from s3_server import s3_server

from presafe import storage, writer
from presafe.errors import StorageError, UserError
from presafe.records import Trace
from presafe.storage import s3

LARGE = "0123456789abcdef" * 2**16
ROWS = [Trace(f"p{k}", "thought" * k, "answer", "stop", k) for k in range(10)]
DENIED = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
BUSY = "<Error><Code>SlowDown</Code><Message>reduce your request rate</Message></Error>"
FAULT = "<Error><Code>InternalError</Code><Message>try again</Message></Error>"


class Told(logging.Handler):
    """What presafe logs, and when it first does."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.event = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.event.set()


@pytest.fixture
def told() -> Iterator[Told]:
    handler = Told()
    logging.getLogger("presafe").addHandler(handler)
    yield handler
    logging.getLogger("presafe").removeHandler(handler)


@pytest.fixture(scope="module")
def proxy() -> Iterator[FailingProxy]:
    with s3_server() as environment, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        with failing_proxy(environment["AWS_ENDPOINT_URL"]) as proxy:
            for name, value in (environment | {"AWS_ENDPOINT_URL": proxy.url}).items():
                patch.setenv(name, value)
            fsspec.filesystem("s3").mkdir("bucket")
            yield proxy


@pytest.fixture(autouse=True)
def _own_outage(monkeypatch):
    monkeypatch.setattr(s3, "_last_failure", float("-inf"))


WORK = {
    "write": (lambda url: storage.write_text(url, LARGE), lambda _: None),
    "rows": (lambda url: storage.write_rows(url, ROWS, Trace), lambda _: None),
    "read": (storage.read_text, lambda url: storage.write_text(url, LARGE)),
    "stream": (storage.hash_file, lambda url: storage.write_text(url, LARGE)),
    "list": (lambda url: storage.names(url.rpartition("/")[0]), lambda url: storage.write_text(url, "x")),
    "create": (lambda url: storage.create(url, "mine"), lambda _: None),
    "remove": (storage.remove, lambda url: storage.write_text(url, "x")),
    "download": (storage.local_file, lambda url: storage.write_text(url, LARGE)),
}


@pytest.mark.parametrize("what", WORK)
def test_a_store_that_is_gone_for_a_while_has_no_effect_but_a_line(proxy, told, what):
    work, before = WORK[what]
    url = f"s3://bucket/gone/{what}/file"
    before(url)
    undisturbed = f"s3://bucket/there/{what}/file"
    before(undisturbed)
    proxy.close()
    with ThreadPoolExecutor(1) as thread:
        try:
            result = thread.submit(work, url)
            assert told.event.wait(60), "nothing was tried again"
            assert not result.done()
        finally:
            proxy.open()
        found = result.result()
    if what != "download":
        assert found == work(undisturbed)
    assert len(told.lines) == 1
    assert "does not answer" in told.lines[0]


@pytest.mark.parametrize(("status", "body"), [(503, BUSY), (500, FAULT)])
def test_a_store_that_is_busy_is_asked_again(proxy, status, body):
    storage.write_text("s3://bucket/busy", "text")
    proxy.answers += [(status, body)] * 3
    assert storage.read_text("s3://bucket/busy") == "text"
    assert not proxy.answers


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_connection_that_breaks_in_the_middle_of_a_body_has_no_effect(proxy, direction):
    url = f"s3://bucket/broken-{direction}"
    storage.write_text(url, "")
    proxy.cuts += [(direction, 300_000)] * 2
    if direction == "up":
        storage.write_text(url, LARGE)
        assert storage.read_text(url) == LARGE
    else:
        storage.write_text(url, LARGE[::-1])
        proxy.cuts[:] = [(direction, 300_000)] * 2
        assert storage.read_text(url) == LARGE[::-1]
        proxy.cuts[:] = [(direction, 300_000)] * 2
        with open(storage.local_file(url)) as file:
            assert file.read() == LARGE[::-1]
    assert not proxy.cuts


def test_who_loses_the_answer_to_a_new_file_still_has_made_it(proxy):
    proxy.cuts[:] = [("down", 0)]
    assert storage.create("s3://bucket/new/file", "mine")
    assert not storage.create("s3://bucket/new/file", "another's")


def test_a_store_that_stays_away_is_one_sentence(proxy, monkeypatch):
    monkeypatch.setattr(s3, "PATIENCE_S", 0.5)
    proxy.close()
    try:
        with pytest.raises(
            StorageError, match=r"^found s3://bucket/x, whose store did not answer for 0 s .*needed.*; see"
        ):
            storage.read_text("s3://bucket/x")
    finally:
        proxy.open()


def test_what_the_store_refuses_is_one_sentence_at_once(proxy, told):
    for work, code in ((storage.read_text, "403"), (lambda url: storage.write_text(url, "x"), "AccessDenied")):
        proxy.answers += [(403, DENIED)]
        with pytest.raises(UserError, match=rf"^found s3://bucket/x, .*\({code}.*needed credentials.*; correct AWS_"):
            work("s3://bucket/x")
    for work in (
        lambda: storage.write_text("s3://misspelt/x", "text"),
        lambda: storage.write_rows("s3://misspelt/rows.parquet", ROWS, Trace),
        lambda: storage.exists("s3://misspelt/x"),
        lambda: storage.make_folder("s3://misspelt/x") or storage.create("s3://misspelt/x", "text"),
    ):
        with pytest.raises(UserError, match=r"^found no bucket of s3://misspelt.*; needed .*; make it, or correct"):
            work()
    assert not told.lines, "none of it passes"


def test_a_writer_keeps_its_place_while_the_store_is_gone(proxy, told, monkeypatch):
    for name, value in (("BEAT_S", 0.05), ("SILENCE_S", 0.5), ("SETTLED_S", 0.05)):
        monkeypatch.setattr(writer, name, value)
    monkeypatch.setattr(s3, "PATIENCE_S", 0.1)
    ended = threading.Event()
    former = signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        with writer.sole_writer("s3://bucket/kept"):
            proxy.close()
            while sum("cannot be read" in line for line in told.lines) < 10:  # each after 0.1 s or more
                told.event.clear()
                assert told.event.wait(60)
            proxy.open()
            before = storage.read_json(f"s3://bucket/kept/{writer.FILE}")
            while (now := storage.read_json(f"s3://bucket/kept/{writer.FILE}"))["beat"] == before["beat"]:
                assert not ended.is_set()
            assert now["writer"] == before["writer"]
    finally:
        signal.signal(signal.SIGTERM, former)
    assert not ended.is_set()


LOOK = "from presafe.cli import main; main(['status', 's3://bucket/run'])"


@pytest.mark.parametrize(
    ("changed", "said"),
    [  # of credentials that are there, but no good, moto takes any
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "which the store does not let this process use"),
        ({"AWS_PROFILE": "nobody"}, "which the store does not let this process use (ProfileNotFound"),
    ],
)
@pytest.mark.usefixtures("proxy")
def test_credentials_that_are_missing_are_one_sentence(tmp_path, changed, said):
    environment = {**os.environ, "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", **changed}
    ended = subprocess.run([sys.executable, "-c", LOOK], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
