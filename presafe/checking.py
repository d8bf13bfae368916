"""Whether an answer is right, where its reference can be checked: with math-verify, in a process of its own.

math-verify guards itself against expressions that take forever with SIGALRM, which Python allows in a main thread
alone. In the main thread of a child process it works, whatever thread asks.
"""

import itertools
import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

SECONDS = 5
"""For one parse or one comparison."""

CHUNK = 512
"""Answers under way at once."""

Row = TypeVar("Row")


def check_answers(rows: Iterable[tuple[Row, str, str | None]]) -> Iterator[tuple[Row, bool | None]]:
    """Of each (row, answer, reference) the row, and whether the answer equals the reference.

    It is None where there is no reference, or one that is no mathematics. Rows are streamed and keep their order.
    """
    remaining = iter(rows)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        while chunk := list(itertools.islice(remaining, CHUNK)):
            pairs = [(answer, reference) for _, answer, reference in chunk if reference is not None]
            verdicts = process.map(_is_right, pairs, chunksize=32)
            for row, _, reference in chunk:
                yield row, None if reference is None else next(verdicts)


def _is_right(pair: tuple[str, str]) -> bool | None:
    from math_verify import parse, verify  # the child alone pays for importing sympy

    answer, reference = pair
    expected = _parsed(parse, reference) or _parsed(parse, f"${reference}$")
    if all(isinstance(expression, str) for expression in expected):
        return None
    return bool(verify(expected, _parsed(parse, answer), timeout_seconds=SECONDS))


def _parsed(parse: Any, text: str) -> list[Any]:
    expressions: list[Any] = parse(text, parsing_timeout=SECONDS)
    return expressions
