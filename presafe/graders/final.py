"""Where a text says what its answer is: a box, a line behind `####`, words such as "the answer is", or bold print."""

import re

LONGEST = 20_000
"""Characters read, from a text's end: final answers stand there."""

MOST_BOXES = 20
"""Boxes looked at, from a text's end, for one that closes and holds something."""

BOX = re.compile(r"\\(?:boxed|fbox)\s*")
HASHES = re.compile(r"####\s*([^\n]+)")
STATED = re.compile(
    r"\banswer\b(?:[^\n.:=]{0,40}?(?:\bis\b|\bare\b|\bequals\b|\bwould be\b|[:=])|\W{0,6}\n)(?!\s*not\b)[:\s]*",
    re.IGNORECASE,
)
BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
FORMULA = re.compile(
    r"\$\$(.{1,999}?)\$\$|(?<!\\)\$(.{1,999}?)(?<!\\)\$|\\\((.{1,999}?)\\\)|\\\[(.{1,999}?)\\\]", re.DOTALL
)
CLAUSE_END = re.compile(r"\s*(?:[.;!?](?=\s|$)|,\s+(?:because|since|which|so|as|but|where|when|if)\b|\n)")


def final_answer(text: str) -> str | None:
    """What a text gives as its answer, None where it marks none. Of several boxes the last one counts."""
    text = text[-LONGEST:]
    if (boxed := last_box(text)) is not None:
        return boxed
    if hashes := HASHES.findall(text):
        return str(hashes[-1]).strip()
    if (stated := _stated(text.replace("**", "").replace("__", ""))) is not None:
        return stated
    lines = text.strip().splitlines()
    bold = [found.strip() for found in BOLD.findall(lines[-1] if lines else "")]
    return bold[-1].rstrip(".") if bold and not bold[-1].endswith(":") else None


def last_box(text: str) -> str | None:
    """The content of the last box that closes and holds something."""
    for found in reversed(list(BOX.finditer(text))[-MOST_BOXES:]):
        start = found.end()
        content = _braced(text, start) if text[start : start + 1] == "{" else re.match(r"[^\s$.,;]*", text[start:])[0]  # type: ignore[index]
        if content and content.strip():
            return content.strip()
    return None


def last_formula(text: str) -> str | None:
    """The last formula between dollars or LaTeX's own brackets."""
    found = list(FORMULA.finditer(text[-LONGEST:]))
    return next((str(text) for text in found[-1].groups() if text), None) if found else None


def _stated(text: str) -> str | None:
    found = list(STATED.finditer(text))
    if not found:
        return None
    rest = text[found[-1].end() :].strip()
    formula = FORMULA.match(rest)
    if formula:
        return str(next(filter(None, formula.groups()))).strip()
    end = CLAUSE_END.search(rest)
    return (rest[: end.start()] if end else rest).strip() or None


def _braced(text: str, start: int) -> str | None:
    """What stands between the brace at `start` and its partner; None where that one is missing."""
    depth = 0
    for place in range(start, len(text)):
        if text[place] in "{}" and text[place - 1] != "\\":
            depth += 1 if text[place] == "{" else -1
            if depth == 0:
                return text[start + 1 : place]
    return None
