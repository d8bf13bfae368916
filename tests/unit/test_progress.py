"""How far a generation job is, read off what its actors write."""

import io
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from presafe import progress
from presafe.progress import BlockReporter, Seen, generated
from presafe.progress import progress as shown


@pytest.fixture
def running(tmp_path):
    return str(tmp_path / "running")


@pytest.fixture
def look(tmp_path, running):
    (tmp_path / "rows").mkdir()
    return generated(str(tmp_path / "rows"), running)


def write_block(folder: Path, name: str, rows: int, **columns: list) -> None:
    pq.write_table(pa.table({"num_tokens": [7] * rows, **columns}), folder / "rows" / f"{name}.parquet")


def test_rows_of_running_blocks_count_beside_those_that_are_written(tmp_path, running, look):
    write_block(tmp_path, "first", 10)
    assert look()[0] == 10
    reporter, other = BlockReporter(running, interval=0), BlockReporter(running, interval=0)
    other.call()(1, 10)
    for block, before in enumerate((11, 15)):
        with reporter.block():
            reporter.call()(3, 70)
            assert look()[0] == before + 3
        write_block(tmp_path, f"block {block}", 4)
        assert look()[0] == before + 4


def test_the_calls_of_a_block_add_up_and_its_end_takes_nothing_back(tmp_path, running, look):
    reporter = BlockReporter(running, interval=0)
    with reporter.block():
        reporter.call()(2, 20)
        reporter.call()(3, 20)
        assert look()[0] == 5
    assert look()[0] == 5, "the block is not written yet"
    write_block(tmp_path, "block", 6)
    assert look()[0] == 6


def test_a_block_whose_actor_died_counts_once(tmp_path, running, look, monkeypatch):
    dead, heir = BlockReporter(running, interval=0), BlockReporter(running, interval=0)
    dead.call()(6, 60)
    assert look()[0] == 6
    monkeypatch.setattr(progress, "STALE_S", -1.0)
    assert look()[0] == 6, "a bar does not go back"
    monkeypatch.undo()
    heir.call()(6, 60)
    write_block(tmp_path, "block", 6)
    monkeypatch.setattr(progress, "STALE_S", -1.0)
    assert look()[0] == 6


def test_failed_rows_and_tokens_are_counted_where_the_files_have_them(tmp_path, running, look):
    assert look().numbers == {"tokens": 0}
    write_block(tmp_path, "judged", 2)
    assert look().numbers == {"tokens": 14}, "a verdict cannot fail"
    write_block(tmp_path, "good", 2, error=pa.array([None, None], pa.string()))
    assert look().numbers == {"tokens": 28, "rows_failed": 0}
    write_block(tmp_path, "bad", 3, error=[None, "too long", "empty"])
    BlockReporter(running, interval=0).call()(1, 100)
    assert look().numbers == {"tokens": 149, "rows_failed": 2}
    again = generated(str(tmp_path / "rows"), done=7)
    assert again()[0] == 7
    write_block(tmp_path, "more", 2, error=[None, "empty"])
    assert again()[0] == 9
    assert again().numbers == {"tokens": 14, "rows_failed": 1}, "an earlier attempt's tokens are not made again"


def test_a_file_that_is_not_whole_yet_counts_later(tmp_path, look):
    write_block(tmp_path, "block", 5)
    file = tmp_path / "rows" / "block.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert look()[0] == 0
    file.write_bytes(whole)
    assert look()[0] == 5


def test_an_actor_tells_once_an_interval(running):
    reporter = BlockReporter(running, interval=3600)
    with reporter.block():
        tell = reporter.call()
        tell(1, 10)
        (file,) = Path(running).iterdir()
        before = file.read_text()
        tell(2, 20)
        assert file.read_text() == before
    assert file.read_text() != before, "the block's end is told at once"


def test_a_storage_that_takes_no_file_costs_no_row(running):
    Path(running).write_text("a file where the folder should be")
    reporter = BlockReporter(running, interval=0)
    with reporter.block():
        reporter.call()(1, 10)


def test_a_log_gets_whole_lines_far_apart_and_one_at_the_end(capfd, monkeypatch):
    looks = iter(range(1000))
    reached = threading.Event()

    def look() -> Seen:
        done = min(next(looks), 9)
        if done == 9:
            reached.set()
        return Seen(done, "a note")

    with shown(look, 9, "title", "rows", interval=0.001):
        assert reached.wait(30)
    log = capfd.readouterr().err
    assert "\r" not in log
    assert [line.split() for line in log.splitlines()] == [["title", "100%", "9/9", "rows", *log.split()[4:]]]
    monkeypatch.setattr(progress, "LINE_S", 0.0)
    looks, reached = iter(range(1000)), threading.Event()
    with shown(look, 9, "title", "rows", interval=0.001):
        assert reached.wait(30)
    assert len(capfd.readouterr().err.splitlines()) > 5


def test_a_terminal_is_drawn_over(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    with shown(lambda: Seen(3, ""), 3, "title", "rows"):
        pass
    assert "\rtitle" in terminal.getvalue()
    assert terminal.getvalue().endswith("\n")


def test_a_look_that_takes_long_is_taken_seldom(capfd):
    """Of many files it takes seconds, which a driver needs for its blocks."""
    looks: list[tuple[float, float]] = []
    often_enough = threading.Event()

    def look() -> progress.Seen:
        begin = time.monotonic()
        time.sleep(0.05)
        looks.append((begin, time.monotonic()))
        if len(looks) == 3:
            often_enough.set()
        return progress.Seen(len(looks), "")

    with shown(look, 10, "job", "rows", interval=0.01):
        assert often_enough.wait(60)
        three = looks[:3]
    for (_, end), (begin, _) in pairwise(three):
        assert begin - end >= progress.SPARED * 0.05
    capfd.readouterr()
