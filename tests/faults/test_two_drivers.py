"""Two drivers of one run directory: the second is told who writes; once the first is killed, the next goes on."""

import signal
from collections import Counter
from collections.abc import Iterator
from subprocess import PIPE

import fsspec
import pytest
from counted_teacher import driver, write_run
from s3_server import s3_server

from holding_server import HoldingServer
from presafe import storage
from presafe.records import TeacherAnswer

ROWS, BLOCK = 60, 5


@pytest.fixture(params=["disk", "s3"])
def runs(request, tmp_path, monkeypatch) -> Iterator[str]:
    """Where run directories are: on a local disk, and on an S3 API."""
    if request.param == "disk":
        yield str(tmp_path)
        return
    with s3_server() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket/runs"


def test_one_of_two_drivers_writes_and_another_takes_its_place(tmp_path, runs):
    with HoldingServer() as endpoint:
        path = write_run(tmp_path, endpoint.url, rows=ROWS, block=BLOCK, runs=runs)
        endpoint.hold_at(ROWS // 2)
        first = driver(path)
        while not endpoint.held.wait(0.2):
            assert first.poll() is None
        second = driver(path, PIPE)
        told = second.communicate()[1]
        assert second.returncode == 2, told
        assert f"another writer of {runs}/run: process {first.pid} on " in told
        assert first.poll() is None
        first.send_signal(signal.SIGKILL)
        first.wait()
        endpoint.release()
        third = driver(path, PIPE)
        told = third.communicate()[1]
        assert third.returncode == 0, told
        assert f"the writer of {runs}/run/writer.json" in told
        again = sum(endpoint.asked.values()) - len(endpoint.asked)
    answers = storage.read_rows(f"{runs}/run/teacher/answers.parquet", TeacherAnswer)
    assert Counter(row.prompt_id for row in answers) == Counter(f"p{k}" for k in range(ROWS)), "every row exactly once"
    assert 0 < again <= BLOCK, "what the killed one was at"
    assert not storage.exists(f"{runs}/run/writer.json")
