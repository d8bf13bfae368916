"""Progress of work that runs elsewhere on the cluster, read off the storage that the work writes to anyway."""

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
def progress(look: Look, total: int, title: str, unit: str, interval: float = 2.0) -> Iterator[None]:
    """Show a bar with what is done, the rate and the time left while the body runs."""
    stop = threading.Event()
    with tqdm(total=total, desc=f"{title:16}", unit=unit, mininterval=0, bar_format=BAR) as bar:

        def show() -> None:
            done, note = look()
            bar.set_postfix_str(note, refresh=False)
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


BAR = "{desc} {percentage:3.0f}% {n_fmt}/{total_fmt} {unit} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


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
    """What a StepReporter wrote to `url` last."""

    def look() -> tuple[int, str]:
        if not storage.exists(url):
            return 0, "starting workers"
        last = storage.read_json(url)
        return last["step"], last["note"]

    return look


class StepReporter:
    """Worker side: writes the step to `url`, at most once an `interval` in seconds, and always the last one."""

    def __init__(self, url: str, total: int, interval: float = 1.0) -> None:
        self._url, self._total, self._interval, self._next = url, total, interval, 0.0

    def __call__(self, step: int, note: str) -> None:
        now = time.monotonic()
        if now >= self._next or step == self._total:
            self._next = now + self._interval
            storage.write_json(self._url, {"step": step, "note": note})
