"""One writer to a run directory: a second is refused and told who writes, a dead one's place is taken."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from presafe import writer
from presafe.errors import UserError
from presafe.writer import FILE, sole_writer

HOLDER = """
import sys, time
from presafe import writer
writer.BEAT_S, writer.SETTLED_S = 0.1, 0.05
with writer.sole_writer(sys.argv[1]):
    print("holds", flush=True)
    time.sleep(600)
"""


OTHER = {"writer": "x", "machine": "another of that name", "pid": 2**22 + 1, "since": "then", "beat": 7}
OTHER["host"] = socket.gethostname()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    for name, value in (("BEAT_S", 0.1), ("SILENCE_S", 4.0), ("LOOK_S", 0.05), ("SETTLED_S", 0.05)):
        monkeypatch.setattr(writer, name, value)


@pytest.fixture
def holder(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_writer_is_told_who_writes_and_since_when(tmp_path, holder):
    with (
        pytest.raises(UserError, match=rf"process {holder.pid} on .* since 2\d+-\d+-\d+ .*alive"),
        sole_writer(str(tmp_path)),
    ):
        pytest.fail("wrote beside the other one")
    assert holder.poll() is None


def test_the_place_of_a_killed_one_is_taken(tmp_path, holder):
    holder.kill()
    holder.wait()
    with sole_writer(str(tmp_path)):
        assert json.loads((tmp_path / FILE).read_text())["pid"] == os.getpid()
    assert not (tmp_path / FILE).exists()


def test_the_place_of_a_silent_one_on_another_machine_is_taken(tmp_path):
    (tmp_path / FILE).write_text(json.dumps(OTHER))
    began = time.monotonic()
    with sole_writer(str(tmp_path)):
        assert time.monotonic() - began >= 4.0, "it might have lived"


def test_the_writer_may_ask_again(tmp_path):
    with sole_writer(str(tmp_path)), sole_writer(str(tmp_path)):
        assert (tmp_path / FILE).exists()
    assert not (tmp_path / FILE).exists()


def test_it_gives_signs_of_life(tmp_path):
    with sole_writer(str(tmp_path)):
        first = json.loads((tmp_path / FILE).read_text())["beat"]
        while json.loads((tmp_path / FILE).read_text())["beat"] == first:
            time.sleep(0.02)


def test_one_whose_place_was_taken_ends(tmp_path, holder):
    (tmp_path / FILE).write_text(json.dumps(OTHER))
    assert holder.wait() == -signal.SIGTERM
    assert json.loads((tmp_path / FILE).read_text()) == OTHER, "it is the other one's"


def test_of_many_that_start_at_once_one_writes_at_a_time(tmp_path):
    inside, most = 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        place = writer._Place(str(tmp_path))
        try:
            place.take()
        except UserError:
            return
        with lock:
            inside += 1
            most = max(most, inside)
        with place.signs_of_life():
            time.sleep(0.5)
        with lock:
            inside -= 1
        place.leave()

    (tmp_path / FILE).write_text(json.dumps(OTHER))
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
