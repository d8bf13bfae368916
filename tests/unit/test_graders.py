"""Answers against references: letters, numbers, words and formulas; what cannot be told is None, never wrong."""

import json
import random
import re
import threading
from pathlib import Path

import pytest

from presafe.graders import check_answers, grade, readable
from presafe.graders.process import Comparer

DATA = Path(__file__).parents[3] / "shared" / "data" / "math500" / "test.jsonl"

RIGHT = [
    ("The three digits are \\boxed{73}.", "073"),
    ("ANSWER: 007", "7"),
    ("Check: 1,007.\n**Final Answer**\n\\boxed{007}", "7"),
    ("Thus n = **91**.", "91"),
    ("He pays \\$2,350.", "2,350"),
    ("It is 4 200 000.", "4200000"),
    ("\\boxed{4{,}200}", "4,\\!200"),
    ("a worked sum\n#### 31", "20 + 11 = 31\n#### 31"),
    ("the answer is 6 .", "6"),
    ("5 + 4 = 9", "9"),
    ("The sum is \\boxed{42}. I checked it in 2 ways.", "42"),
    ("first \\boxed{3}, corrected: \\boxed{4}", "4"),
    ("I used \\boxed{} for the result, \\boxed{5}. The end of \\boxed{}", "5"),
    ("\\boxed{\\boxed{8}}", "8"),
    ("Area: \\boxed{12} m^2", "12"),
    ("\\boxed{12\\text{ m/s}}", "12"),
    ("\\boxed{30}", "30^\\circ"),
    ("\\boxed{36 dollars}", "\\$36"),
    ("\\boxed{35\\text{ percent}}", "35\\%"),
    ("\\boxed{0.35}", "35\\%"),
    ("It is $1.5 \\times 10^{4}$", "1.5e4"),
    ("x = \u22128", "-8"),
    ("\uff15\uff16", "56"),
    ("\u0663\u0664", "34"),
    ("Es sind 2,5 Liter.", "2.5"),
    ("It takes $1\\frac{3}{4}$ hours", "\\frac{7}{4}"),
    ("2\u00bd", "5/2"),
    ("it is 0.5", "1/2"),
    ("\\boxed{\\frac{84}{2}}", "42"),
    ("so \\boxed{\\frac{1}{2}}", "\\dfrac12"),
    ("\\boxed{\\frac{\\sqrt{3}}{2^{1/2}}}", "\\frac{\\sqrt{6}}{2}"),
    ("sqrt(5)/3", "\\frac{\\sqrt{5}}{3}"),
    ("\\boxed{\u221a7}", "\\sqrt{7}"),
    ("\\boxed{\\left(4, \\frac{\\pi}{3}\\right)}", "( 4, \\frac{\\pi}{3} )"),
    ("So $x \\in \\boxed{[2, 7)}$", "[2,7)"),
    ("\\boxed{2 \\le x < 7}", "[2,7)"),
    ("\\boxed{(-\u221e, 4]}", "(-\\infty,4]"),
    ("\\boxed{\\{3, 2\\}}", "\\{2,3\\}"),
    ("\\boxed{2 \\text{ or } -3}", "-3,2"),
    ("\\boxed{6}", "x=6"),
    ("\\boxed{y=2x+1}", "2x+1"),
    ("\\boxed{61}", "61_8"),
    ("\\boxed{b + a}", "a + b"),
    ("\\boxed{C}", "C"),
    ("**Answer: (B)**", "B"),
    ("Answer: $D$", "D"),
    ("answer: c is wrong, so\nAnswer: A", "A"),
    ("The answer is (c).", "C"),
    ("C. the third one", "C"),
    ("\\boxed{\\textbf{(E)}\\ 12}", "\\text{(E)}"),
    ("It was \\boxed{\\text{Marta}}", "Marta"),
    ("Marta.", "\\text{Marta}"),
    ("No, it does not.", "No"),
    ("At \\boxed{14:20}", "14:20"),
]
WRONG = [
    ("the answer is 7 .", "6"),
    ("The answer is 51. Step 52", "52"),
    ("It is 1/52", "52"),
    ("-5", "5"),
    ("5 apples, then 7", "5"),
    ("", "5"),
    ("It is \\boxed{7}, and not $5$", "5"),
    ("From $5$ we get 6", "5"),
    ("no idea", "5"),
    ("It takes 2 2/3 hours", "2"),
    ("first \\boxed{3}, corrected: \\boxed{4}", "3"),
    ("\\boxed{0.28}", "28"),
    ("\\boxed{[2, 7]}", "[2,7)"),
    ("\\boxed{(1, 2)}", "(2,1)"),
    ("\\boxed{62_8}", "61_8"),
    ("\\boxed{D}", "C"),
    ("\\boxed{B or C}", "B"),
    ("A triangle has three sides.", "A"),
    ("Answer: yes", "No"),
    ("It was \\boxed{Jan}", "Marta"),
]
UNTOLD = [
    ("whatever", None),
    ("5", "nan"),
    ("5", ""),
    ("5", "???"),
    ("print(x)", "def f(x): return x"),
    ("She left in 1945.", "She left after the war, in 1945, by ship"),
    ("It was not Marta but Jan, or so he says.", "Marta"),
    ("on 2024-05-06", "2024-05-06"),
    ("\\boxed{9^{9^{9^9}}}", "3"),
]


@pytest.mark.parametrize(
    ("answer", "reference", "verdict"),
    [(*case, True) for case in RIGHT] + [(*case, False) for case in WRONG] + [(*case, None) for case in UNTOLD],
)
def test_an_answer_is_right_wrong_or_untold(answer, reference, verdict):
    assert grade(answer, reference) is verdict


def test_rows_keep_their_order_in_any_thread():
    rows = [(k, f"it is {k % 7}", f"\\frac{{{2 * (k % 5)}}}{{2}}" if k % 3 else None) for k in range(60)]
    found = []
    # math-verify's own alarm cannot ring in a thread
    thread = threading.Thread(target=lambda: found.extend(check_answers(rows)))
    thread.start()
    thread.join()
    assert found == [(k, (k % 7 == k % 5) if k % 3 else None) for k in range(60)]


@pytest.mark.parametrize("reference", ["5", "073", "C", "\\text{(C)}", "Marta", "x^2", "14:20", "\u5317\u4eac", "6_8"])
def test_a_reference_that_an_answer_can_equal_is_readable(reference):
    assert readable(reference)
    assert grade(f"So it is \\boxed{{{reference}}}.", reference)


@pytest.mark.parametrize("reference", [None, "", "nan", "None", "\\frac{1", "???", "a reason of more than five words"])
def test_a_reference_that_no_answer_can_equal_is_not_readable(reference):
    assert not readable(reference)


def test_a_reference_is_readable_by_its_own_grader_alone():
    assert readable("C", "choice")
    assert not readable("C", "number")


def test_a_comparison_without_an_answer_costs_that_one_alone(monkeypatch):
    comparer = Comparer()
    assert comparer("x + y", "y + x") is True
    monkeypatch.setattr("presafe.graders.process.SECONDS", 0)
    assert comparer("(x+y)^{20}", "x^{20}") is None
    monkeypatch.undo()
    assert comparer("x + y", "y + x") is True
    comparer.close()


@pytest.mark.parametrize(
    "answer", ["6 " + "a" * 180 + "!", "9" * 6000, "\\boxed{" * 2000, "\\(" * 9000, "1/" * 8000, " " * 19_000 + "6"]
)
def test_no_answer_takes_the_grader_long_or_down(answer):
    assert grade(answer, "5") is False


def math_references() -> list[str]:
    return [json.loads(line)["answer"] for line in DATA.read_text().splitlines()] if DATA.exists() else []


@pytest.mark.skipif(not DATA.exists(), reason="MATH-500 is not here")
@pytest.mark.parametrize(
    "form",
    [
        str,
        "Adding both, we find that it is $\\boxed{{{}}}$, as was to be shown.".format,
        lambda reference: re.sub(r"(?<![a-zA-Z])\s+|\s+(?![a-zA-Z])", "", reference),
    ],
    ids=["as given", "boxed", "without spaces"],
)
def test_references_of_a_public_suite_equal_themselves(form):
    references = math_references()
    assert len(references) == 500
    assert sum(grade(form(reference), reference) is True for reference in references) >= 490


@pytest.mark.skipif(not DATA.exists(), reason="MATH-500 is not here")
def test_another_problems_answer_is_not_right():
    references, rng = math_references(), random.Random(0)
    pairs = [pair for pair in (rng.sample(references, 2) for _ in range(400)) if pair[0] != pair[1]]
    passed = [(a, b) for a, b in pairs if grade(f"It is $\\boxed{{{a}}}$.", b)]
    assert len(passed) <= 0.01 * len(pairs), passed
