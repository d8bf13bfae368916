"""JailbreakBench: 100 harmful behaviours, and 100 benign ones on the same themes."""

from presafe.suites.public import PublicSuite

_SHARED = {
    "dataset": "JailbreakBench/JBB-Behaviors",
    "subset": "behaviors",
    "revision": "886acc352a31533ffbcf4ef22c744658688086fc",
    "columns": {"text": "Goal", "category": "Category"},
    "rows": 100,
}
_CITATION = "Chao et al. 2024, JailbreakBench: An Open Robustness Benchmark for Jailbreaking LLMs, arXiv:2404.01318"

HARMFUL = PublicSuite(
    name="jailbreakbench_harmful",
    source={**_SHARED, "split": "harmful", "kind": "harmful"},
    licence="MIT",
    citation=_CITATION,
    overlaps={"advbench": 11, "harmbench": 9},
)
BENIGN = PublicSuite(
    name="jailbreakbench_benign",
    source={**_SHARED, "split": "benign", "kind": "benign"},
    licence="MIT",
    citation=_CITATION,
)
