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
            text, inside = self._behind_slips(text, inside=inside)
            if not inside:
                if not whole and self.may_become_a_slip(text, inside=False):
                    return Thought(self._joined(thoughts), "", closed=False)
                return Thought(self._joined(thoughts), unwrapped(text.strip()), closed=True)
            end = self._closing(text, whole=whole)
            if end is None:
                return Thought(self._joined([*thoughts, text]), "", closed=False)
            thoughts.append(text[: end[0]])
            text, inside = text[end[1] :], False

    def _behind_slips(self, text: str, *, inside: bool) -> tuple[str, bool]:
        """The text behind the tags and the role's name that it begins with, and whether they leave a block open."""
        while True:
            text = text.lstrip()
            found = self.slip(text, inside=inside)
            if found is None:
                return text, inside
            inside = found == self.tags.open or (inside and found != self.tags.close)
            text = text[len(found) :]

    def slip(self, text: str, *, inside: bool) -> str | None:
        """The tag or role's name that `text` begins with where a thought (`inside`) or an answer should; or None."""
        return next((slip for slip in self._slips(inside) if text[: len(slip)].casefold() == slip.casefold()), None)

    def may_become_a_slip(self, text: str, *, inside: bool) -> bool:
        """Whether nothing has begun yet, or what has may turn out to be the beginning of a tag."""
        return any(slip.casefold().startswith(text.casefold()) for slip in self._slips(inside))

    def _slips(self, inside: bool) -> tuple[str, ...]:
        tags = (self.tags.open, self.tags.close)
        return tags if inside else (*tags, *(wrapper.open for wrapper in WRAPPERS), ROLE)

    def _closing(self, text: str, *, whole: bool) -> tuple[int, int] | None:
        """Where the tag that ends the reasoning begins and ends; None where none is seen to."""
        places = [found.span() for found in re.finditer(re.escape(self.tags.close), text)]
        free = [(start, end) for start, end in places if not quoted(text[:start], text[end:])]
        if self.own_line:
            placed = [(start, end) for start, end in free if not line_of(text[:start]).strip()]
            # A tag in the middle of a line ends a thought only if none comes behind it on a line of its own.
            free = placed or (free if whole else [])
        return free[0] if free else None

    def _joined(self, thoughts: list[str]) -> str:
        return "\n\n".join(filter(None, (thought.replace(self.tags.open, "").strip() for thought in thoughts)))


def quoted(before: str, behind: str) -> bool:
    """Whether a tag between these texts is in quotation marks. One with nothing before it in its line is so only by
    what stands before it: an answer may begin with a quotation mark.
    """
    return before[-1:] in QUOTES or (bool(line_of(before).strip()) and behind[:1] in QUOTES)


def line_of(text: str) -> str:
    """The last line of a text, which goes on behind it."""
    return text.rpartition("\n")[2]


def unwrapped(answer: str) -> str:
    """The answer, or its end, without the end of the tags that it was put in."""
    answer = answer.rstrip()
    for wrapper in WRAPPERS:
        answer = answer.removesuffix(wrapper.close).rstrip()
    return answer
