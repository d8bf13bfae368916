"""Think tags and control tokens in texts of others: found, removed or broken, so that none reaches a model as one."""

import re
from collections.abc import Iterable

NESTED_TAGS = 8
"""Depth of forged tags within forged tags that is taken apart; each costs a pass over the text."""


def any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """A pattern of any of these texts, the longest first."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))))


def removed(text: str, control: re.Pattern[str]) -> str:
    """`text` without what `control` matches, and without the white space that set it off.

    What removal makes of the text around is removed as well, up to a depth beyond which `broken` breaks it.
    """
    for _ in range(NESTED_TAGS):
        segments = control.split(text)
        if len(segments) == 1:
            return text
        text = _joined(segments)
    return text


def broken(text: str, control: re.Pattern[str]) -> str:
    """`text` with a space behind the first character of whatever `control` matches."""
    while control.search(text):
        text = control.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)
    return text


def _joined(segments: list[str]) -> str:
    """The text between tags, with one space where white space parted it."""
    last = len(segments) - 1
    parts: list[str] = []
    spaced = False
    for place, segment in enumerate(segments):
        words = segment if place == 0 else segment.lstrip()
        words = words if place == last else words.rstrip()
        spaced = spaced or (place > 0 and segment[:1].isspace())
        if words:
            parts += [" ", words] if parts and spaced else [words]
            spaced = place < last and segment[-1:].isspace()
        else:
            spaced = spaced or bool(segment)
    return "".join(parts)
