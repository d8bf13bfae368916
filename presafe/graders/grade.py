"""One grader for answers: a letter, a number, words or a formula, whichever the reference is."""

from collections.abc import Iterable, Iterator
from typing import Literal, TypeVar

from presafe.graders import choice, exact, mathematics, number
from presafe.graders.final import HASHES, LONGEST, final_answer, last_box
from presafe.graders.spelling import unified

Grader = Literal["choice", "number", "exact", "math"]
MISSING = {"", "nan", "none", "null", "n/a", "na", "<na>"}
"""References that say that there is none, as tables write them."""

Row = TypeVar("Row")


def check_answers(rows: Iterable[tuple[Row, str, str | None]]) -> Iterator[tuple[Row, bool | None]]:
    """Of each (row, answer, reference) the row, and what `grade` says. Rows are streamed and keep their order."""
    for row, answer, reference in rows:
        yield row, grade(answer, reference)


def grade(answer: str, reference: str | None) -> bool | None:
    """Whether the answer gives what the reference says.

    None, which is unscored and never wrong: no reference, one that cannot be read, an answer that only mentions the
    words asked for, and formulas that math-verify fails on or does not compare in its time.
    """
    expected = _expected(reference)
    grader = _grader(expected)
    if grader is None:
        return None
    answer = unified(answer[-LONGEST:]).strip()
    if not answer:
        return False
    if mathematics.said_as_written(answer, expected):
        return True
    match grader:
        case "choice":
            return choice.answer_letter(answer) == choice.reference_letter(expected)
        case "exact":
            return exact.equal_words(answer, str(exact.reference_words(expected)))
        case "number":
            return _equal_numbers(answer, expected)
        case "math":
            return mathematics.equal_formulas(answer, expected)


def readable(reference: str | None, grader: Grader | None = None) -> bool:
    """Whether a reference can be graded against: by that grader, or without one by any."""
    expected = _expected(reference)
    found = _grader(expected)
    if found is None or grader not in (None, found):
        return False
    return found != "math" or mathematics.parses(expected)


def _expected(reference: str | None) -> str:
    """What a reference says: of a worked solution, its box or what stands behind `####`."""
    text = unified(reference or "").strip()
    hashes = HASHES.findall(text)
    return (last_box(text) or (hashes[-1] if hashes else text)).strip()


def _grader(expected: str) -> Grader | None:
    if expected.lower() in MISSING:
        return None
    if choice.reference_letter(expected):
        return "choice"
    if number.whole_number(expected):
        return "number"
    if exact.reference_words(expected):
        return "exact"
    return "math" if mathematics.is_formula(expected) else None


def _equal_numbers(answer: str, expected: str) -> bool | None:
    """The number that the answer gives, else its last one; an expression that it gives is computed."""
    wanted = number.whole_number(expected)
    assert wanted is not None
    given = final_answer(answer)
    if given is None:
        found = number.whole_number(answer) or number.last_number(answer)
    else:
        found = number.whole_number(given) or number.whole_number(given.rpartition("=")[2])
    if found is not None:
        if found == wanted or (found.value.denominator == wanted.value.denominator == 1):
            return found == wanted
        given = given if given is not None else answer
    if given is None:
        return False
    return mathematics.equal_formulas(f"\\boxed{{{given}}}", expected)
