"""Values of a row: which are missing, and how the others are written and compared."""

import math
from decimal import Decimal
from typing import Any

MISSING = {"", "nan", "none", "null", "<na>", "nat", "#n/a"}
"""A missing value as pandas, Python and spreadsheets write it, in lower case."""


def missing(value: Any) -> bool:
    """Whether a value is none: NaN, blank, or the word that a missing one was written as."""
    return not isinstance(value, dict | list) and str(value).strip().casefold() in MISSING


def as_text(value: Any) -> str:
    """A value as it would be written: pandas makes 73.0 of a whole number in a column where one is missing."""
    if isinstance(value, float) and math.isfinite(value):
        return format(Decimal(repr(value)), "f").removesuffix(".0")
    return str(value)


def plain(value: Any) -> str:
    """How values are compared: without case and space around; a missing one is the empty text."""
    if missing(value):
        return ""
    text = as_text(value).strip().casefold()
    return text.removesuffix(".0") if text.removesuffix(".0").isdecimal() else text
