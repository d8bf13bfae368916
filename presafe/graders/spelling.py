"""One spelling for an answer: Unicode's mathematics as LaTeX, every script's digits as ASCII ones."""

import re
import unicodedata

SIGNS = str.maketrans(
    dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\u2014\ufe63", "-")
    | dict.fromkeys("\u2018\u2019\u02bc", "'")
    | dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff")
    | {
        "\u00d7": r"\times ",
        "\u22c5": r"\cdot ",
        "\u00b7": r"\cdot ",
        "\u00f7": "/",
        "\u2044": "/",
        "\u2215": "/",
        "\u03c0": r"\pi ",
        "\u221e": r"\infty ",
        "\u2264": r"\le ",
        "\u2265": r"\ge ",
        "\u2260": r"\ne ",
        "\u222a": r"\cup ",
        "\u2229": r"\cap ",
        "\u2208": r"\in ",
        "\u00b1": r"\pm ",
        "\u00b0": r"^\circ ",
        "\u3002": ". ",
    }
)
RAISED = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u207b\u207f]+")
LOWERED = re.compile("[\u2080-\u208b]+")
FRACTIONS = re.compile("[\u00bc-\u00be\u2150-\u215e]")
ROOT = re.compile("\u221a\\s*(?:(\\d+)|\\(([^()]*)\\)|([a-z]))?")
THOUSANDS = re.compile(r"(?<=\d)(?:,\\!\s*|\{,\}|\\,|\\ |[\u00a0\u2009\u202f'])(?=\d{3}(?!\d))")
"""What stands between groups of three digits, in LaTeX and in print, other than a plain comma."""
SPACES = re.compile(r"\\[,;:!]|\\q?quad\b|\\displaystyle\b|\\limits\b|\\left(?![a-zA-Z])|\\right(?![a-zA-Z])")
"""LaTeX that changes how a formula looks, not what it says."""


def unified(text: str) -> str:
    """`text` in one spelling; what it says stays the same."""
    text = THOUSANDS.sub(",", text)
    text = FRACTIONS.sub(lambda found: r"\frac{" + _compatible(found[0]).replace("\u2044", "}{") + "}", text)
    text = RAISED.sub(lambda found: "^{" + _compatible(found[0]) + "}", text)
    text = LOWERED.sub(lambda found: "_{" + _compatible(found[0]) + "}", text)
    text = ROOT.sub(lambda found: r"\sqrt{" + next(filter(None, found.groups()), "") + "}", text.translate(SIGNS))
    return "".join(_digit(character) for character in _compatible(text).translate(SIGNS))


def squeezed(formula: str) -> str:
    """A formula without what only changes its looks: equal where two differ in white space and typesetting alone."""
    text = SPACES.sub("", re.sub(r"\\!|\\\$|\$", "", formula))
    text = re.sub(r"\\[dtc]frac\b", r"\\frac", text)
    text = re.sub(r"\\(?:mbox|mathrm|textrm|textbf|mathbf|textit|operatorname)\b", r"\\text", text)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"([_^])\s*\{\s*([^{}\s\\]|\\circ)\s*\}", r"\1\2", text)
    text = re.sub(r"\\(?:,|~|\s)|~|\s+", "", text)
    return re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text).rstrip(".")


def _compatible(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _digit(character: str) -> str:
    return str(unicodedata.decimal(character)) if character.isdecimal() else character
