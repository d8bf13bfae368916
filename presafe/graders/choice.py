"""Multiple choice: which letter an answer gives."""

import re

from presafe.graders.final import last_box

LETTER = re.compile(r"\(?\s*([A-J])\s*(?:[).:,]|$)")
"""A letter alone, in brackets, or in front of its option's text."""
STATED = re.compile(
    r"\b(?:answer|option|choice)\b(?:\s+(?:is|would be|must be))?\s*[:=]?\s*(?:option|choice)?\s*"
    r"(?:\$|\\boxed\{|\\text\{)*(?:\(([A-Ja-j])\)|([A-J])(?![\w'])(?!\s+[a-z]))",
    re.IGNORECASE,
)
BARE = re.compile(r"(?:^|\n|[^\x00-\x7f])\s*\(?([A-J])\)?[.:]?\s*$")
"""The last line is the letter."""
WRAPPED = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}")


def reference_letter(reference: str) -> str | None:
    """The letter of a reference such as `C`, `(C)` or `\\text{(C)}`; None where it is no letter."""
    found = re.fullmatch(r"\(?\s*([A-J])\s*\)?\.?", _plain(reference))
    return found[1] if found else None


def answer_letter(answer: str) -> str | None:
    """The letter that an answer gives: its last box, else what it states last, else its last line or first word."""
    if (boxed := last_box(answer)) is not None:
        found = LETTER.match(_plain(boxed).upper() if len(_plain(boxed)) <= 3 else _plain(boxed))
        return found[1] if found else None
    text = _plain(answer.replace("**", "").replace("__", ""))
    stated = [found for found in STATED.finditer(text) if found[1] or found[2].isupper()]
    if stated:
        return (stated[-1][1] or stated[-1][2]).upper()
    found = BARE.search(text) or re.match(r"\(([A-J])\)|([A-J])[).:](?=\s|$)", text)
    return next(filter(None, found.groups())) if found else None


def _plain(text: str) -> str:
    return WRAPPED.sub(r"\1", text.replace("$", "")).strip()
