"""Progress of work that runs elsewhere on the cluster, read off the storage that the work writes to anyway."""

import io
import json
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import NamedTuple

import fsspec
import pyarrow.parquet as pq
from tqdm import tqdm

from presafe import storage
from presafe.storage.files import file_system
from presafe.telemetry.metrics import TOKENS, Unit, WorkMetrics
from presafe.telemetry.part import part_at_work

NOTHING: Mapping[str, float] = MappingProxyType({})


class Seen(NamedTuple):
    """How much is done by now, a few words to show beside it, and further metrics by their names."""

    done: int
    note: str
    numbers: Mapping[str, float] = NOTHING


Look = Callable[[], Seen]


@contextmanager
def progress(
    look: Look, total: int, title: str, unit: Unit, interval: float = 2.0, *, rated: bool = True
) -> Iterator[None]:
    """Show a bar with what is done while the body runs; where stderr is no terminal, lines LINE_S apart and at its end.

    Inside a part of a run, each look is told to Prometheus, too.

    Where it is `rated`, rate and time left are what the bar sees; else the note of `look` says them: of a resumed
    training, the bar would count the earlier steps as done in a moment.
    """
    stop = threading.Event()
    bar_format = RATED if rated else PLAIN
    terminal = sys.stderr.isatty()
    file = sys.stderr if terminal else io.StringIO()  # a log gets whole lines, by `tell`
    next_line = time.monotonic() + LINE_S
    part = part_at_work()
    metrics = None if part is None else WorkMetrics(part, title)
    with tqdm(total=total, desc=f"{title:16}", unit=unit, mininterval=0, bar_format=bar_format, file=file) as bar:

        def show() -> None:
            done, note, numbers = look()
            width = shutil.get_terminal_size((240, 24)).columns - PREFIX  # a wrapped line cannot be drawn over
            bar.set_postfix_str(note[: max(0, width)], refresh=False)
            bar.update(done - bar.n)
            if metrics is not None:
                metrics.tell(unit, done, total, numbers)

        def tell() -> None:
            print(bar, file=sys.stderr, flush=True)

        def watch() -> None:
            nonlocal next_line
            pause = interval
            while not stop.wait(pause):
                begin = time.monotonic()
                show()
                pause = max(interval, SPARED * (time.monotonic() - begin))
                if not terminal and time.monotonic() >= next_line:
                    tell()
                    next_line = time.monotonic() + LINE_S

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            show()
            if not terminal:
                tell()


PLAIN = "{desc} {percentage:3.0f}% {n_fmt}/{total_fmt} {unit} [{elapsed}{postfix}]"
LINE_S = 30.0
"""Between the lines of a bar in a log."""
SPARED = 9
"""Times as long as a look the next one is away: of many files it takes seconds, in which a driver schedules little."""
STALE_S = 60.0
"""After it, what an actor told of its block counts no longer: it may have died, and others do its rows."""
RATED = PLAIN.replace("{postfix}", "<{remaining}, {rate_fmt}{postfix}")
PREFIX = 60
"""Columns of a line without its note, at most."""


def generated(folder: str, running: str | None = None, done: int = 0) -> Look:
    """Rows in the Parquet files of `folder`, and the tokens a second that their column `num_tokens` sums up to.

    `done` rows are in the files that are there already, which are not read. The rows of a block count before its file
    is there where a BlockReporter of its actor writes to `running`. Where the files have a column `error`, rows with
    one are counted among the numbers.
    """
    fs, path = file_system(folder)
    begin = time.monotonic()
    files: list[_File] = []
    known = set(fs.glob(f"{path}/**/*.parquet"))
    blocks = _RunningBlocks(running) if running else None
    most = 0

    def look() -> Seen:
        nonlocal most
        for name in fs.glob(f"{path}/**/*.parquet"):
            if name not in known:
                with suppress(OSError, ValueError):  # still being written: it counts at the next look
                    files.append(_read(fs, name))
                    known.add(name)
        rows_running, tokens_running = blocks.read() if blocks else (0, 0)
        new = tokens_running + sum(file.tokens for file in files)
        # A block that is done is in neither place for a moment, and one whose actor died begins anew.
        most = max(most, done + rows_running + sum(file.rows for file in files))
        failed = [file.failed for file in files if file.failed is not None]
        numbers = {TOKENS: new} | ({"rows_failed": sum(failed)} if failed else {})
        return Seen(most, f"{new / (time.monotonic() - begin):,.0f} tokens/s", numbers)

    return look


class _File(NamedTuple):
    """What a file of rows counts for; `failed` is None where its rows have no errors."""

    rows: int
    tokens: int
    failed: int | None


def _read(fs: fsspec.AbstractFileSystem, path: str) -> _File:
    with pq.ParquetFile(path, filesystem=fs) as file:
        columns = [name for name in ("num_tokens", "error") if name in file.schema_arrow.names]
        table = file.read(columns)
    failed = len(table) - table["error"].null_count if "error" in columns else None
    return _File(len(table), sum(table["num_tokens"].to_pylist()), failed)


class BlockReporter:
    """Worker side: writes to a file of its own in `folder` how far the actor's block is, once an `interval` at most.

    `interval` is in seconds. A storage that cannot be written to costs the report alone.
    """

    def __init__(self, folder: str, interval: float = 5.0) -> None:
        self._url, self._interval = storage.join(folder, f"{uuid.uuid4().hex}.json"), interval
        self._next, self._rows, self._tokens, self._written = 0.0, 0, 0, False

    @contextmanager
    def block(self) -> Iterator[None]:
        """While its rows are at work. What is told of it ends with it: its file has it then."""
        self._rows = self._tokens = 0
        yield
        if self._written:
            self._write(0, 0)
            self._written = False

    def call(self) -> Callable[[int, int], None]:
        """Told of rows done and tokens so far of one call of several for the block."""
        rows_before, tokens_before = self._rows, self._tokens

        def tell(rows: int, tokens: int) -> None:
            self._rows, self._tokens = rows_before + rows, tokens_before + tokens
            if time.monotonic() >= self._next:
                self._write(self._rows, self._tokens)
                self._written = True

        return tell

    def _write(self, rows: int, tokens: int) -> None:
        self._next = time.monotonic() + self._interval
        with suppress(OSError):
            storage.write_json(self._url, {"rows": rows, "tokens": tokens})


class _RunningBlocks:
    """What the BlockReporters of a folder wrote. One that stays as it is for long has died, or waits."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._seen: dict[str, tuple[str, float]] = {}

    def read(self) -> tuple[int, int]:
        """Rows and tokens of all."""
        now = time.monotonic()
        rows = tokens = 0
        for name in storage.names(self._folder) if storage.exists(self._folder) else []:
            if name.endswith(".json"):
                text = storage.read_text(storage.join(self._folder, name))
                before, since = self._seen.get(name, ("", 0.0))
                if text != before:
                    self._seen[name], since = (text, now), now
                if now - since < STALE_S:
                    said = json.loads(text)
                    rows, tokens = rows + said["rows"], tokens + said["tokens"]
        return rows, tokens


def steps_done(url: str) -> Look:
    """What a StepReporter writes to `url` from now on, which an interrupted run may have done before."""
    before = storage.read_text(url) if storage.exists(url) else None

    def look() -> Seen:
        if not storage.exists(url) or storage.read_text(url) == before:
            return Seen(0, "starting workers")
        last = storage.read_json(url)
        left, note = last["seconds_left"], last["note"]
        said = note if left is None else f"{tqdm.format_interval(left)} left, {note}"
        return Seen(last["step"], said, last["numbers"])

    return look


class StepReporter:
    """Worker side: writes the step to `url`, at most once an `interval` in seconds, and always the last one or `now`.

    The time left is that of the steps since this process's first, which a resumed run does not begin with 1.
    """

    def __init__(self, url: str, total: int, interval: float = 1.0) -> None:
        self._url, self._total, self._interval, self._next = url, total, interval, 0.0
        self._first: tuple[int, float] | None = None

    def __call__(self, step: int, note: str, numbers: Mapping[str, float] = NOTHING, *, now: bool = False) -> None:
        at = time.monotonic()
        first, begin = self._first = self._first or (step, at)
        if now or at >= self._next or step == self._total:
            self._next = at + self._interval
            left = round((at - begin) / (step - first) * (self._total - step), 1) if step > first else None
            said = {"step": step, "note": note, "seconds_left": left, "updated": round(time.time(), 3)}
            storage.write_json(self._url, said | {"numbers": {**numbers}})
