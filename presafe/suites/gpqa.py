"""GPQA-Diamond: 198 questions of biology, physics and chemistry with four options each.

The options come in an order that follows from the question alone: the same in every run, on every machine, in every
version of the suite (presafe/prompts/choices.py).
"""

from presafe.suites.forms import LETTER
from presafe.suites.public import PublicSuite

DIAMOND = PublicSuite(
    name="gpqa_diamond",
    source={
        "dataset": "Idavidrein/gpqa",
        "subset": "gpqa_diamond",
        "revision": "633f5ee89ab8ad4522a9f850766b73f62147ffdd",
        "columns": {"text": "Question", "category": "High-level domain"},
        "choices": ["Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"],
        "form": LETTER,
        "kind": "reasoning",
        "rows": 198,
    },
    licence="CC-BY-4.0",
    citation="Rein et al. 2023, GPQA: A Graduate-Level Google-Proof Q&A Benchmark, arXiv:2311.12022",
    grader="choice",
    gated=True,
)
