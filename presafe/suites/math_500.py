"""MATH-500: 500 problems of MATH's test set, of whose answers 184 are no numbers."""

from presafe.suites.forms import BOXED
from presafe.suites.public import PublicSuite

MATH_500 = PublicSuite(
    name="math_500",
    source={
        "dataset": "HuggingFaceH4/MATH-500",
        "split": "test",
        "revision": "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        "columns": {"text": "problem", "reference": "answer", "category": "subject"},
        "form": BOXED,
        "kind": "reasoning",
        "rows": 500,
    },
    licence="MIT",
    citation="Lightman et al. 2023, Let's Verify Step by Step, arXiv:2305.20050",
    grader="mathematics",
)
