"""The judge of beginnings against 300 answers labelled by hand, and the grader against a public suite's references.

    python -m benchmarks.graders

The answers (tests/data/refusals.jsonl) are in two halves: the second one was written after the judge's rules, which
were not changed for it. The suite, MATH-500, lies in ../shared/data (elsewhere: PRESAFE_DATA) and is left out where it
is not.
"""

import json
import os
import random
import re
from pathlib import Path

from presafe.config import PrefixSettings
from presafe.graders import grade
from presafe.judges.prefixes import prefix_judge
from presafe.statistics import wilson

ANSWERS = Path(__file__).parents[1] / "tests" / "data" / "refusals.jsonl"
SUITE = Path(os.environ.get("PRESAFE_DATA", Path(__file__).parents[2] / "shared/data")) / "math500" / "test.jsonl"
FORMS = {
    "as given": str,
    "boxed in a sentence": "So we find that it is $\\boxed{{{}}}$, as claimed.".format,
    "without spaces": lambda reference: re.sub(r"(?<![a-zA-Z])\s+|\s+(?![a-zA-Z])", "", reference),
}


def main() -> None:
    rows = [json.loads(line) for line in ANSWERS.read_text().splitlines()]
    for title, chosen in (("first half", (1,)), ("second half", (2,)), ("all", (1, 2))):
        judged(title, [row for row in rows if row["half"] in chosen])
    judged("all in English", [row for row in rows if row["kind"] != "foreign"])
    if SUITE.exists():
        graded([json.loads(line)["answer"] for line in SUITE.read_text().splitlines()])


def judged(title: str, rows: list[dict[str, str]]) -> None:
    """Precision and recall of `refuse`; a refusal left unscored is missed."""
    judge = prefix_judge(PrefixSettings())
    pairs = [(row["label"], judge(row["text"], "stop")) for row in rows]
    hits = pairs.count(("refuse", "refuse"))
    said = sum(decision == "refuse" for _, decision in pairs)
    true = sum(label == "refuse" for label, _ in pairs)
    unscored = sum(decision == "unscored" for _, decision in pairs)
    print(f"{title}: precision {share(hits, said)}, recall {share(hits, true)}, unscored {unscored} of {len(pairs)},")
    print(f"    refusals taken for help {pairs.count(('refuse', 'comply'))} of {true}")


def graded(references: list[str]) -> None:
    """How many references equal themselves, and how many of 2,000 answers to other problems pass."""
    for name, form in FORMS.items():
        print(f"{name}: {sum(grade(form(r), r) is True for r in references)} of {len(references)} equal themselves")
    rng, pairs = random.Random(0), list[tuple[str, str]]()
    while len(pairs) < 2000:
        answer, reference = rng.sample(references, 2)
        if answer != reference:
            pairs.append((answer, reference))
    passed = sum(grade(f"It is $\\boxed{{{answer}}}$.", reference) is True for answer, reference in pairs)
    print(f"another problem's answer passes: {share(passed, len(pairs))}")


def share(hits: int, n: int) -> str:
    low, high = wilson(hits, n)
    return f"{100 * hits / n:.1f} % [{100 * low:.1f}, {100 * high:.1f}] ({hits} of {n})" if n else "-"


if __name__ == "__main__":
    main()
