"""HarmBench: behaviours by themselves, and behaviours about a text, which is in front of them in the prompt.

Its 100 copyright behaviours are left out: what counts there is whether a text is reproduced, which no judge of refusals
sees.
"""

from presafe.suites.public import PublicSuite

_SHARED = {
    "path": "https://raw.githubusercontent.com/centerforaisafety/HarmBench/"
    "8e1604d1171fe8a48d8febecd22f600e462bdcdd/data/behavior_datasets/harmbench_behaviors_text_all.csv",
    "kind": "harmful",
}
_CITATION = "Mazeika et al. 2024, HarmBench: A Standardized Evaluation Framework, arXiv:2402.04249"

STANDARD = PublicSuite(
    name="harmbench_standard",
    source={
        **_SHARED,
        "columns": {"text": "Behavior", "category": "SemanticCategory"},
        "where": {"FunctionalCategory": "standard"},
        "rows": 200,
    },
    licence="MIT",
    citation=_CITATION,
    overlaps={"jailbreakbench_harmful": 9},
    note="its copyright behaviours are left out",
)
CONTEXTUAL = PublicSuite(
    name="harmbench_contextual",
    source={
        **_SHARED,
        "columns": {"text": "{ContextString}\n\n{Behavior}", "category": "SemanticCategory"},
        "where": {"FunctionalCategory": "contextual"},
        "rows": 100,
    },
    licence="MIT",
    citation=_CITATION,
    note="the context is in front of the behaviour",
)
