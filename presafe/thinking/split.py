"""A completion's text taken apart into reasoning and answer, whole or while it is still being written."""

import re
from dataclasses import dataclass

from presafe.thinking.tags import WRAPPERS, Tags

QUOTES = frozenset("\"'`\u201c\u201d\u2018\u2019\u00ab\u00bb")
ROLE = "assistant:"
"""A role's name in words, which some models write in front of their answer."""


@dataclass(frozen=True)
class Thought:
    """A completion taken apart. `closed` is False where the reasoning was cut off before its closing tag."""

    reasoning: str
    answer: str
    closed: bool


@dataclass(frozen=True)
class Splitter:
    """Takes completions of one kind apart.

    `begins` says where they begin: inside the think block, in front of it, or, with chain-of-thought off, at the
    answer. `own_line` says that the template writes the closing tag on a line of its own.
    """

    tags: Tags
    begins: str
    own_line: bool

    def whole(self, text: str) -> Thought:
        """Reasoning and answer of a whole completion.

        A closing tag that stands as the template writes it ends the reasoning before any other; one in quotation marks
        is only spoken of. Tags in front of the answer are slips: an empty block is left out, another thought belongs to
        the reasoning.
        """
        return self._split(text, whole=True)

    def beginning(self, text: str) -> Thought:
        """The same of a completion that goes on: `closed` only where no continuation changes where the answer begins.

        Hence what is decided of it is what is decided of the whole.
        """
        return self._split(text, whole=False)

    def _split(self, text: str, *, whole: bool) -> Thought:
        thoughts: list[str] = []
        inside = self.begins == "inside"
        text = text.lstrip()
        if self.begins == "in front" and not text.startswith((self.tags.open, self.tags.close)):
            # The model left the opening tag out; whether it closes what it did not open is not known before the end.
            if not whole:
                return Thought("", "", closed=False)
            inside = self._closing(text, whole=whole) is not None
        while True:
            if not inside:
                text, inside = self._behind_slips(text)
            if not inside:
                if not whole and self._may_become_a_slip(text):
                    return Thought(self._joined(thoughts), "", closed=False)
                return Thought(self._joined(thoughts), _unwrapped(text), closed=True)
            end = self._closing(text, whole=whole)
            if end is None:
                return Thought(self._joined([*thoughts, text]), "", closed=False)
            thoughts.append(text[: end[0]])
            text, inside = text[end[1] :], False

    def _behind_slips(self, text: str) -> tuple[str, bool]:
        """The text behind the tags and the role's name that it begins with, and whether they leave a block open."""
        inside = False
        while True:
            text = text.lstrip()
            found = next((slip for slip in self._slips if text[: len(slip)].casefold() == slip.casefold()), None)
            if found is None:
                return text, inside
            inside = found == self.tags.open or (inside and found != self.tags.close)
            text = text[len(found) :]

    def _may_become_a_slip(self, text: str) -> bool:
        """Whether the answer has not begun, or may turn out to be the beginning of a tag."""
        return any(slip.casefold().startswith(text.casefold()) for slip in self._slips)

    @property
    def _slips(self) -> tuple[str, ...]:
        return (self.tags.open, self.tags.close, *(wrapper.open for wrapper in WRAPPERS), ROLE)

    def _closing(self, text: str, *, whole: bool) -> tuple[int, int] | None:
        """Where the tag that ends the reasoning begins and ends; None where none is seen to."""
        places = [found.span() for found in re.finditer(re.escape(self.tags.close), text)]
        free = [place for place in places if not _quoted(text, *place)]
        if self.own_line:
            placed = [(start, end) for start, end in free if not text[:start].rstrip(" \t").rpartition("\n")[2]]
            # A tag in the middle of a line ends a thought only if none comes behind it on a line of its own.
            free = placed or (free if whole else [])
        return free[0] if free else None

    def _joined(self, thoughts: list[str]) -> str:
        return "\n\n".join(filter(None, (thought.replace(self.tags.open, "").strip() for thought in thoughts)))


def _quoted(text: str, start: int, end: int) -> bool:
    return bool({text[max(start - 1, 0) : start], text[end : end + 1]} & QUOTES)


def _unwrapped(answer: str) -> str:
    """The answer without the end of the tags that it was put in."""
    answer = answer.strip()
    for wrapper in WRAPPERS:
        answer = answer.removesuffix(wrapper.close).rstrip()
    return answer
