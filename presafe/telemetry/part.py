"""Which part of which run this process is at: the labels of what it tells."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class PartAtWork:
    """A part of a stage of a run, each by its name."""

    run: str
    stage: str
    part: str


_AT_WORK = ContextVar[PartAtWork | None]("part at work", default=None)


@contextmanager
def at_work(part: PartAtWork) -> Iterator[None]:
    """`part` is what this thread is at while the body runs."""
    token = _AT_WORK.set(part)
    try:
        yield
    finally:
        _AT_WORK.reset(token)


def part_at_work() -> PartAtWork | None:
    """None outside of any part."""
    return _AT_WORK.get()
