"""What makes a row a prompt; each way it can fail has a reason of its own, under which it is counted."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any, get_args

from presafe.config import Source
from presafe.files import Problem
from presafe.files.values import as_text, missing, plain
from presafe.graders import readable
from presafe.prompts.normalise import normalise
from presafe.records import Kind

KINDS = get_args(Kind)

UNDECODED = re.compile("[\udc80-\udcff]")
"""What Python's `surrogateescape` makes of bytes that are no UTF-8."""
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""C0 without tab and line ends, DEL, C1, and lone surrogates."""
FORGED = re.compile(r"</?think(ing)?/?>|<\|[\w\u2581/.:\-]{2,64}\|>")
"""Think tags, and chat control tokens such as <|im_start|>, in the spelling of `_squashed`."""
INVISIBLE = re.compile(r"[\s\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]+")
"""Space, and characters of no width that would hide a tag."""


@dataclass(frozen=True)
class RawPrompt:
    """A row of a source, read and checked, before dedupe and split."""

    text: str
    kind: Kind
    category: str | None
    reference: str | None


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


def checked_prompt(
    fields: dict[str, Any], source: Source, max_characters: int, *, attacks: bool
) -> RawPrompt | Problem:
    """The prompt in the fields of a row of `source`.

    `attacks` says that it is a suite: it lets forged control tokens pass, since attacks hold them, and its reasoning
    prompts need a reference.
    """
    text = checked_text(fields["text"], str(source.columns.get("text", "text")), max_characters, attacks=attacks)
    if isinstance(text, Problem):
        return text
    kind = _kind(fields["kind"], source)
    if isinstance(kind, Problem):
        return kind
    category, reference = _optional(fields["category"]), _optional(fields["reference"])
    if isinstance(category, Problem):
        return category
    if isinstance(reference, Problem):
        return reference
    for value in (category, reference):
        if value is not None and (problem := characters(value)):
            return problem
    if attacks and kind == "reasoning" and not readable(reference):
        return _unreadable(reference, str(source.columns.get("reference", "reference")))
    return RawPrompt(text, kind, category, reference)


def _kind(value: Any, source: Source) -> Kind | Problem:
    if missing(value):
        value = source.kind
    own: dict[str, Kind] = {kind: kind for kind in KINDS}
    known = own | {plain(name): kind for name, kind in source.kinds.items()}
    if plain(value) in known:
        return known[plain(value)]
    names = ", ".join(KINDS)
    return Problem("unknown kind", f"kind {value!r} is none of {names}; set the source's kind, its column or `kinds`")


def checked_text(text: Any, column: str, max_characters: int, *, attacks: bool) -> str | Problem:
    """The normalised text, or what is wrong with it."""
    if isinstance(text, dict | list):
        return Problem("no text", f"no text in column {column!r} but {_holding(text)}")
    if not isinstance(text, str):
        return Problem("no text", f"no text in column {column!r}")
    if not text.strip():
        return Problem("empty text", f"an empty text in column {column!r}")
    if len(text) > max_characters:
        return Problem("too long", f"{len(text)} characters, more than {max_characters}")
    if problem := characters(text) or (None if attacks else forged(text)):
        return problem
    return normalise(text)


def forged(text: str) -> Problem | None:
    """The first think tag or chat control token in a text."""
    token = FORGED.search(_squashed(text))
    return Problem("forged control token", f"{token[0]!r}") if token else None


def _unreadable(reference: str | None, column: str) -> Problem:
    """Why no answer to a suite's reasoning prompt could be graded."""
    if reference is None:
        return Problem("no reference", f"no reference in column {column!r}, so that no answer can be graded")
    return Problem("unreadable reference", f"the grader cannot read the reference {reference[:80]!r}")


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


def _optional(value: Any) -> str | Problem | None:
    if isinstance(value, dict | list):
        return Problem("no value", f"no value but {_holding(value)}")
    return None if missing(value) else as_text(value).strip()


def _holding(value: dict[str, Any] | list[Any]) -> str:
    """A nested value, and how its columns are written."""
    if isinstance(value, dict):
        return f"an object of {', '.join(list(value)[:5])}; name a place in it, as `column.key`"
    return "a list; name a place in it, as `column[0]` or `column[0].content`"
