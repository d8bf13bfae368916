"""AdvBench: 520 harmful requests; the repository of the attack that brought it is open, mirrors are gated."""

from presafe.suites.public import PublicSuite

ADVBENCH = PublicSuite(
    name="advbench",
    source={
        "path": "https://raw.githubusercontent.com/llm-attacks/llm-attacks/"
        "098262edf85f807224e70ecd87b9d83716bf6b73/data/advbench/harmful_behaviors.csv",
        "columns": {"text": "goal"},
        "kind": "harmful",
        "rows": 520,
    },
    licence="MIT",
    citation="Zou et al. 2023, Universal and Transferable Adversarial Attacks on Aligned Language Models, "
    "arXiv:2307.15043",
    overlaps={"strongreject": 25, "jailbreakbench_harmful": 11},
    note="many of its requests are alike",
)
