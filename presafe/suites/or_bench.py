"""OR-Bench-hard-1k: 1,319 benign prompts that several strong models refuse."""

from presafe.suites.public import PublicSuite

HARD = PublicSuite(
    name="or_bench_hard",
    source={
        "dataset": "bench-llm/or-bench",
        "subset": "or-bench-hard-1k",
        "revision": "e36d8b80e81837c8a8f264bbb2a49f1b32c7e272",
        "columns": {"text": "prompt", "category": "category"},
        "kind": "benign",
        "rows": 1319,
    },
    licence="CC-BY-4.0",
    citation="Cui et al. 2024, OR-Bench: An Over-Refusal Benchmark for Large Language Models, arXiv:2405.20947",
    note="written and checked by models: not every one of them is harmless",
)
