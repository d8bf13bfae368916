"""Numbers as people write them: thousands, decimal comma, percent, money, units, fractions, mixed and scientific."""

import re
from dataclasses import dataclass
from fractions import Fraction

DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d{1,3}(?: \d{3})+(?![\d])(?:\.\d+)?|\d+[.,]\d+|\.\d+|\d+)"
RATIO = r"\\[dtc]?frac\s*(?:\{\s*\d+\s*\}|\d)\s*(?:\{\s*\d+\s*\}|\d+)"
POWER = r"(?:\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*\{?\s*[+-]?\d+\s*\}?|e[+-]?\d+(?![\w]))"
UNSIGNED = rf"(?:\d+\s*{RATIO}|{RATIO}|\d+\s+\d+/\d+|{DIGITS}(?:{POWER}|\s*/\s*\d+(?![\d,.]*\d))?)"
MONEY = r"(?:\\?\$|\\pounds|[\u20ac\u00a3\u00a5]|USD|EUR)?"
SIGNED = re.compile(rf"(?P<sign>(?<![\w)}}\]])[-+]\s*)?{MONEY}\s*(?P<number>{UNSIGNED})", re.IGNORECASE)
PERCENT = re.compile(r"\s*(?:\\?%|\\text\{\s*(?:%|percent)\s*\}|percent\b|per cent\b)", re.IGNORECASE)
UNIT = re.compile(
    r"(?:\s*\^\s*\{?\s*\\circ\s*\}?|\s*\\degrees?\b|\s*\\(?:text|mbox|mathrm|textrm|textbf)\s*\{[^{}\d]*\}"
    r"|\s*(?<![a-z])[a-z]{1,12}(?![a-z])|\s*/|\s*\^\s*\{?\d\}?(?=\s*$)|\s*[.,])*\s*",
    re.IGNORECASE,
)
"""What may stand behind a number and leave it what it is: a degree sign, up to three words, a unit and its power."""

LONGEST = 200
"""Characters of a number and its unit."""


@dataclass(frozen=True)
class Number:
    """An exact value; of a percentage, the number in front of the sign."""

    value: Fraction
    percent: bool

    def __eq__(self, other: object) -> bool:
        """A percentage equals its number, with or without the sign, and its hundredth."""
        assert isinstance(other, Number)
        if self.percent == other.percent:
            return self.value == other.value
        percentage, plain = (self, other) if self.percent else (other, self)
        return plain.value in (percentage.value, percentage.value / 100)


def whole_number(text: str) -> Number | None:
    """The number that `text` is, apart from its unit; None where it is something else, an expression say."""
    if len(text) > LONGEST:
        return None
    text = re.sub(r"^\s*\\?\$(?=.*\$\s*$)|(?<!\\)\$\s*$", "", text).strip()
    found = SIGNED.match(text)
    if not found:
        return None
    percent = PERCENT.match(text, found.end())
    unit = UNIT.fullmatch(text, percent.end() if percent else found.end())
    if unit is None or len(re.findall(r"[a-z]{2,}", unit[0], re.IGNORECASE)) > 4 or _is_variable(unit[0]):
        return None
    return _number(found, percent is not None)


def last_number(text: str) -> Number | None:
    """The last number in a text."""
    found = [one for one in SIGNED.finditer(text) if not text[: one.start()].rstrip().endswith(" not")]
    return _number(found[-1], PERCENT.match(text, found[-1].end()) is not None) if found else None


def _is_variable(unit: str) -> bool:
    """Whether it may be a letter of an expression, as in `2k` or `3R^2`, and no unit."""
    return bool(re.fullmatch(r"\s*(?:[a-zA-Z]|[a-zA-Z]\s*\^\s*\{?\d\}?)\s*", unit))


def _number(found: re.Match[str], percent: bool) -> Number | None:
    value = _value(found["number"]) if len(found["number"]) <= LONGEST else None
    if value is None:
        return None
    return Number(-value if (found["sign"] or "").strip() == "-" else value, percent)


def _value(text: str) -> Fraction | None:
    if ratio := re.search(r"\\[dtc]?frac\s*\{?\s*(\d+?)\s*\}?\s*(?:\{\s*(\d+)\s*\}|(\d+))$", text):
        whole, top, bottom = text[: ratio.start()].strip() or "0", ratio[1], ratio[2] or ratio[3]
    elif ratio := re.fullmatch(r"(?:(\d+)\s+)?([\d.,]+)\s*/\s*(\d+)", text):
        whole, top, bottom = ratio[1] or "0", ratio[2], ratio[3]
    else:
        mantissa, _, exponent = re.sub(r"\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^", "e", text).partition("e")
        power = int(re.sub(r"[{}\s]", "", exponent) or 0)
        return _decimal(mantissa) * Fraction(10) ** power if abs(power) < 1000 else None
    return int(whole) + _decimal(top) / int(bottom) if int(bottom) else None


def _decimal(text: str) -> Fraction:
    text = text.strip()
    if re.fullmatch(r"\d{1,3}(?:[ ,]\d{3})+(?:\.\d+)?", text):
        return Fraction(re.sub("[ ,]", "", text))
    return Fraction(text.replace(",", "."))
