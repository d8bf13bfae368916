"""Progress of work that runs elsewhere on the cluster, read off the storage that the work writes to anyway."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import fsspec
import pyarrow.parquet as pq
from tqdm import tqdm

from presafe import storage

Look = Callable[[], tuple[int, str]]
"""How much is done by now, and a few words to show beside it."""


@contextmanager
def progress(
    look: Look, total: int, title: str, unit: str, interval: float = 2.0, *, rated: bool = True
) -> Iterator[None]:
    """Show a bar with what is done while the body runs.

    Where it is `rated`, rate and time left are what the bar sees; else the note of `look` says them: of a resumed
    training, the bar would count the earlier steps as done in a moment.
    """
    stop = threading.Event()
    bar_format = RATED if rated else PLAIN
    with tqdm(total=total, desc=f"{title:16}", unit=unit, mininterval=0, bar_format=bar_format) as bar:

        def show() -> None:
            done, note = look()
            width = shutil.get_terminal_size((240, 24)).columns - PREFIX  # a wrapped line cannot be drawn over
            bar.set_postfix_str(note[: max(0, width)], refresh=False)
            bar.update(done - bar.n)

        def watch() -> None:
            while not stop.wait(interval):
                show()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            show()


PLAIN = "{desc} {percentage:3.0f}% {n_fmt}/{total_fmt} {unit} [{elapsed}{postfix}]"
RATED = PLAIN.replace("{postfix}", "<{remaining}, {rate_fmt}{postfix}")
PREFIX = 60
"""Columns of a line without its note, at most."""


def generated(folder: str) -> Look:
    """Rows in the Parquet files of `folder`, and the tokens a second that their column `num_tokens` sums up to."""
    fs, path = fsspec.core.url_to_fs(folder)
    begin = time.monotonic()
    tokens: dict[str, tuple[int, int]] = {}
    found_before = set(fs.glob(f"{path}/**/*.parquet"))

    def look() -> tuple[int, str]:
        fs.invalidate_cache(path)
        for file in fs.glob(f"{path}/**/*.parquet"):
            if file not in tokens:
                try:
                    column = pq.read_table(file, columns=["num_tokens"], filesystem=fs)["num_tokens"]
                except (OSError, ValueError):
                    continue  # still being written: it counts at the next look
                tokens[file] = len(column), sum(column.to_pylist())
        new = sum(count for file, (_, count) in tokens.items() if file not in found_before)
        return sum(rows for rows, _ in tokens.values()), f"{new / (time.monotonic() - begin):,.0f} tokens/s"

    return look


def steps_done(url: str) -> Look:
    """What a StepReporter writes to `url` from now on, which an interrupted run may have done before."""
    before = storage.read_text(url) if storage.exists(url) else None

    def look() -> tuple[int, str]:
        if not storage.exists(url) or storage.read_text(url) == before:
            return 0, "starting workers"
        last = storage.read_json(url)
        left = last["seconds_left"]
        return last["step"], last["note"] if left is None else f"{tqdm.format_interval(left)} left, {last['note']}"

    return look


class StepReporter:
    """Worker side: writes the step to `url`, at most once an `interval` in seconds, and always the last one.

    The time left is that of the steps since this process's first, which a resumed run does not begin with 1.
    """

    def __init__(self, url: str, total: int, interval: float = 1.0) -> None:
        self._url, self._total, self._interval, self._next = url, total, interval, 0.0
        self._first: tuple[int, float] | None = None

    def __call__(self, step: int, note: str) -> None:
        now = time.monotonic()
        first, begin = self._first = self._first or (step, now)
        if now >= self._next or step == self._total:
            self._next = now + self._interval
            left = round((now - begin) / (step - first) * (self._total - step), 1) if step > first else None
            said = {"step": step, "note": note, "seconds_left": left, "updated": round(time.time(), 3)}
            storage.write_json(self._url, said)
