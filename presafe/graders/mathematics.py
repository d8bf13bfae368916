"""Formulas: compared as they are written, then as mathematics."""

import re

from presafe.graders.final import final_answer, last_formula
from presafe.graders.process import comparison
from presafe.graders.spelling import squeezed

TAIL = 2_000
"""Characters, from its end, of an answer that marks nothing as its result: math-verify looks for a formula there."""

BASE = re.compile(r"(\d+)_\{?(\d+)\}?")
ASSIGNED = re.compile(r"^[a-zA-Z](?:\([a-zA-Z]\))?\s*(?:=|\\in\b)\s*")
OR = re.compile(r"\\text\s*\{\s*,?\s*(?:or|and)\s*\}|(?<![a-zA-Z])(?:or|and)(?![a-zA-Z])")
UNIT = re.compile(r"\s*\\(?:text|mbox|mathrm|textrm)\s*\{[^{}]*\}(?:\s*\^\s*\{?\d\}?)?\s*$")
PROSE = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{4,}")
COMMANDS = re.compile(r"\\(?:begin|end)\s*\{[a-z]*\}|\\text\s*\{[^{}]*\}|\\[a-zA-Z]+|arc(?:sin|cos|tan)|sqrt|infty")


def is_formula(reference: str) -> bool:
    """Whether a reference looks like mathematics: something in it, and no prose."""
    return (
        bool(re.search(r"[\da-zA-Z\\]", reference))
        and '"' not in reference
        and not PROSE.search(COMMANDS.sub(" ", reference))
    )


def parses(reference: str) -> bool:
    """Whether math-verify reads a reference as mathematics."""
    return comparison(_bare(reference), _bare(reference)) is True or bool(BASE.fullmatch(squeezed(reference)))


def equal_formulas(answer: str, reference: str) -> bool | None:
    """Whether what the answer gives equals the reference; None where math-verify cannot say in its time."""
    candidate = final_answer(answer) or last_formula(answer) or answer[-TAIL:]
    return comparison(*_alike(_bare(candidate), _bare(reference)))


def said_as_written(answer: str, reference: str) -> bool:
    """Whether what the answer marks as its result, the formula that it ends in or all of it is the reference."""
    given = final_answer(answer)
    if given is not None:
        return _equal_as_written(given, reference)
    ends_in_formula = answer.rstrip(" .!").endswith(("$", r"\)", r"\]"))
    said = (answer, last_formula(answer) if ends_in_formula else None)
    return any(_equal_as_written(text, reference) for text in said if text is not None)


def _equal_as_written(candidate: str, reference: str) -> bool:
    """Whether two formulas differ in typesetting alone."""
    first, second = squeezed(candidate), squeezed(reference)
    if first == second:
        return True
    base = BASE.fullmatch(second)
    return base is not None and BASE.sub(r"\1_\2", first) in (base[1], f"{base[1]}_{base[2]}")


def _alike(candidate: str, reference: str) -> tuple[str, str]:
    """Both without a `x =` in front where only one of them has it."""
    named = [bool(ASSIGNED.match(formula)) for formula in (candidate, reference)]
    if named[0] != named[1]:
        return ASSIGNED.sub("", candidate), ASSIGNED.sub("", reference)
    return candidate, reference


def _bare(formula: str) -> str:
    """A formula without dollars, a unit at its end, and words between several solutions."""
    formula = OR.sub(",", re.sub(r"\\!|\\\$|^\$+|\$+$", "", formula.strip())).rstrip(".")
    bare = UNIT.sub("", formula)
    return (bare or formula).strip()
