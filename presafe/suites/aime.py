"""The American Invitational Mathematics Examinations of 2024 and 2025: 30 problems each, whose answers are numbers."""

from presafe.suites.forms import BOXED
from presafe.suites.public import PublicSuite

_SHARED = {"columns": {"text": "problem", "reference": "answer"}, "form": BOXED, "kind": "reasoning", "rows": 30}

AIME_2024 = PublicSuite(
    name="aime_2024",
    source={**_SHARED, "dataset": "HuggingFaceH4/aime_2024", "revision": "2fe88a2f1091d5048c0f36abc874fb997b3dd99a"},
    licence="none stated",
    citation="Mathematical Association of America, AIME 2024",
    grader="number",
)
AIME_2025 = PublicSuite(
    name="aime_2025",
    source={**_SHARED, "dataset": "yentinglin/aime_2025", "revision": "6f71d77b0b89b9dabe07ab466c51df33f514df7f"},
    licence="none stated",
    citation="Mathematical Association of America, AIME 2025",
    grader="number",
)
