"""What a text of a row may be; each way it can fail has a reason of its own, under which it is counted."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from presafe.files import Problem
from presafe.prompts.normalise import normalise

UNDECODED = re.compile("[\udc80-\udcff]")
"""What Python's `surrogateescape` makes of bytes that are no UTF-8."""
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""C0 without tab and line ends, DEL, C1, and lone surrogates."""
FORGED = re.compile(r"</?think(ing)?/?>|<\|[\w\u2581/.:\-]{2,64}\|>")
"""Think tags, and chat control tokens such as <|im_start|>, in the spelling of `_squashed`."""
INVISIBLE = re.compile(r"[\s\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]+")
"""Space, and characters of no width that would hide a tag."""


@dataclass(frozen=True)
class BadRow:
    """A row that could not be used: where it stands (counted from 1), why, and its beginning."""

    source: str
    row: int
    reason: str
    detail: str
    content: str


def bad_row(source: str, number: int, problem: Problem, row: Any) -> BadRow:
    """The row for quarantine/; its text is made fit for Parquet, which holds UTF-8 alone."""
    content, detail = (text[:200].encode("utf-8", "backslashreplace").decode() for text in (str(row), problem.detail))
    return BadRow(source, number, problem.reason, detail, content)


def checked_text(text: Any, column: str, max_characters: int, *, attacks: bool) -> str | Problem:
    """The normalised text, or what is wrong with it."""
    if isinstance(text, dict | list):
        return Problem("no text", f"no text in column {column!r} but {holding(text)}")
    if not isinstance(text, str):
        return Problem("no text", f"no text in column {column!r}")
    if not text.strip():
        return Problem("empty text", f"an empty text in column {column!r}")
    if problem := too_long(len(text), max_characters) or characters(text) or (None if attacks else forged(text)):
        return problem
    return normalise(text)


def too_long(size: int, max_characters: int) -> Problem | None:
    return Problem("too long", f"{size} characters, more than {max_characters}") if size > max_characters else None


def forged(text: str) -> Problem | None:
    """The first think tag or chat control token in a text."""
    token = FORGED.search(_squashed(text))
    return Problem("forged control token", f"{token[0]!r}") if token else None


def characters(text: str) -> Problem | None:
    """The first character that no text may hold."""
    if found := UNDECODED.search(text):
        byte = ord(found[0]) - 0xDC00
        return Problem("not UTF-8", f"byte 0x{byte:02x} at character {found.start()}: is its encoding cp1252, say?")
    if found := CONTROL.search(text):
        return Problem("control character", f"U+{ord(found[0]):04X} at character {found.start()}")
    return None


def _squashed(text: str) -> str:
    """One spelling of a tag: full-width signs as plain ones (DeepSeek's bars), lower case, nothing invisible."""
    return INVISIBLE.sub("", unicodedata.normalize("NFKC", text).casefold())


def holding(value: dict[str, Any] | list[Any]) -> str:
    """A nested value, and how its columns are written."""
    if isinstance(value, dict):
        return f"an object of {', '.join(list(value)[:5])}; name a place in it, as `column.key`"
    return "a list; name a place in it, as `column[0]` or `column[0].content`"
