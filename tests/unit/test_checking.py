"""Checkable answers: right, wrong, not checkable, from any thread, and against the clock."""

import threading

import pytest

from presafe.checking import check_answers

CASES = [
    ("the answer is 6 .", "6", True),
    ("the answer is 7 .", "6", False),
    ("so \\boxed{\\frac{1}{2}}", "\\frac{1}{2}", True),
    ("it is 0.5", "1/2", True),
    ("1,234 coins", "1234", True),
    ("3 + 4 = 7", "7", True),
    ("three clips in all: 72", "first 48/2 = 24 and then 48+24 = 72\n#### 72", True),
    ("", "5", False),
    ("no idea", "5", False),
    ("whatever", None, None),
    ("whatever", "???", None),
    ("\\boxed{9^{9^{9^9}}}", "3", False),
]


@pytest.fixture(scope="module")
def verdicts():
    """Checked in a thread, where math-verify's own alarm cannot ring."""
    found = []
    rows = [(k, answer, reference) for k, (answer, reference, _) in enumerate(CASES)]
    thread = threading.Thread(target=lambda: found.extend(check_answers(rows)))
    thread.start()
    thread.join()
    return found


@pytest.mark.parametrize("place", range(len(CASES)), ids=[repr(case[:2])[:40] for case in CASES])
def test_answers_are_compared_as_mathematics(verdicts, place):
    assert verdicts[place] == (place, CASES[place][2])


def test_rows_keep_their_order_over_chunks():
    rows = [(k, f"it is {k % 7}", str(k % 5) if k % 3 else None) for k in range(1100)]
    found = list(check_answers(rows))
    assert [row for row, _ in found] == list(range(1100))
    assert [right for _, right in found] == [(k % 7 == k % 5) if k % 3 else None for k in range(1100)]
