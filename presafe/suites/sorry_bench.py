"""SORRY-Bench: 440 unsafe instructions over 44 categories, without their 20 paraphrases each."""

from presafe.suites.public import PublicSuite

SORRY_BENCH = PublicSuite(
    name="sorry_bench",
    source={
        "dataset": "sorry-bench/sorry-bench-202503",
        "columns": {"text": "turns[0]", "category": "category"},
        "where": {"prompt_style": "base"},
        "kind": "harmful",
        "rows": 440,
    },
    licence="its own agreement",
    citation="Xie et al. 2024, SORRY-Bench: Systematically Evaluating LLM Safety Refusal, arXiv:2406.14598",
    gated=True,
)
