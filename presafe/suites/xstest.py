"""XSTest: 250 safe prompts that look unsafe, and 200 unsafe ones beside them. Never train on the safe half."""

from presafe.suites.public import PublicSuite

_SHARED = {
    "dataset": "Paul/XSTest",
    "revision": "f600c994b256f12867dfa5b3eb3d545a3e62f8b5",
    "columns": {"text": "prompt", "category": "type"},
}
_CITATION = "Röttger et al. 2024, XSTest: A Test Suite for Identifying Exaggerated Safety Behaviours, arXiv:2308.01263"

SAFE = PublicSuite(
    name="xstest_safe",
    source={**_SHARED, "where": {"label": "safe"}, "kind": "benign", "rows": 250},
    licence="CC-BY-4.0",
    citation=_CITATION,
)
UNSAFE = PublicSuite(
    name="xstest_unsafe",
    source={**_SHARED, "where": {"label": "unsafe"}, "kind": "harmful", "rows": 200},
    licence="CC-BY-4.0",
    citation=_CITATION,
)
