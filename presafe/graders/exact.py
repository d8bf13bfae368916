"""Words: a name, a direction, yes or no, a date."""

import re

from presafe.graders.final import final_answer

MOST_WORDS = 5
"""A longer reference is a sentence, which a comparison of words does not grade."""

WRAPPED = re.compile(r"\\(?:text|mathrm|textbf|mbox|textit)\s*\{([^{}]*)\}")
WORDS = re.compile(r"[^\W\d_][\w'.,&\- ]*")
DATE = re.compile(r"\d{1,4}([-:./])\d{1,2}(?:\1\d{1,4})?(?:\s*[ap]\.?m\.?)?", re.IGNORECASE)
FORMULA_WORDS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "log",
        "exp",
        "sqrt",
        "max",
        "min",
        "mod",
        "lim",
        "arcsin",
        "arccos",
        "arctan",
    ]
)
OPPOSITES = {"yes": "no", "no": "yes", "true": "false", "false": "true"}


def reference_words(reference: str) -> str | None:
    """A reference that is words, or a date or time of day, in the spelling that is compared; None for another."""
    text = WRAPPED.sub(r"\1", reference.replace("$", "")).strip()
    if DATE.fullmatch(text) and not re.fullmatch(r"\d+[./]\d+", text):
        return _plain(text)
    if not WORDS.fullmatch(text) or len(text.split()) > MOST_WORDS:
        return None
    words = re.findall(r"[^\W\d_]+", text.lower())
    named = any(len(word) > 2 and word not in FORMULA_WORDS for word in words) or not text.isascii()
    return _plain(text) if named or text.lower() in OPPOSITES or re.fullmatch("[A-Z][a-z]", text) else None


def equal_words(answer: str, expected: str) -> bool | None:
    """Whether the answer gives the expected words; None where it only mentions them."""
    given = final_answer(answer)
    words = _plain(WRAPPED.sub(r"\1", given if given is not None else answer))
    if words == expected:
        return True
    if expected in OPPOSITES:
        first = words.partition(" ")[0]
        return None if first not in OPPOSITES and _holds(words, expected) else first == expected
    if given is not None and words.startswith(f"{expected} ") and " or " not in words:
        return True
    return None if _holds(words, expected) else False


def _holds(text: str, words: str) -> bool:
    return f" {words} " in f" {text} "


def _plain(text: str) -> str:
    """Lower case, one space between words, no punctuation at a word's ends, no article in front."""
    words = [word.strip(".,;:!?\"'`*()[]{}$\\") for word in text.casefold().split()]
    words = [word for word in words if word]
    return " ".join(words[1:] if len(words) > 1 and words[0] in {"the", "a", "an"} else words)
