"""The process that compares formulas: `python -m presafe.graders.worker FILE_DESCRIPTOR`, started by `process`."""

import logging
import re
import sys
from multiprocessing.connection import Connection
from typing import Any

from math_verify import parse, verify
from math_verify.errors import TimeoutException

SECONDS = 5
"""For one parse or one comparison."""


def main(descriptor: int) -> None:
    """Answer (candidate, reference) pairs until the other end is closed."""
    logging.disable(logging.CRITICAL)
    pipe = Connection(descriptor)
    pipe.send("ready")
    while True:
        try:
            candidate, reference = pipe.recv()
        except EOFError:
            return
        pipe.send(compare(candidate, reference))


def compare(candidate: str, reference: str) -> bool | None:
    """Whether the candidate equals the reference; None where math-verify fails or takes too long."""
    try:
        expected, given = _parsed(reference), _parsed(candidate)
        if not expected:
            return None
        if not given:
            return False
        # an inequality may be given for an interval
        return bool(verify(expected, given, timeout_seconds=SECONDS, raise_on_error=True, allow_set_relation_comp=True))
    except (Exception, TimeoutException):  # noqa: BLE001 - whatever it raises of foreign text is no verdict
        return None


def _parsed(text: str) -> list[Any]:
    """What math-verify makes of a formula, LaTeX first, without the strings that it could not read."""
    found: list[Any] = []
    for form in (f"${text}$", text) if not re.search(r"\$|\n", text) else (text,):
        parsed = parse(form, parsing_timeout=SECONDS, raise_on_error=True)
        found = [expression for expression in parsed if not isinstance(expression, str)]
        if found:
            break
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]))
