"""StrongREJECT: 313 forbidden prompts in six categories; its own repository is open, mirrors on the hub are gated."""

from presafe.suites.public import PublicSuite

STRONGREJECT = PublicSuite(
    name="strongreject",
    source={
        "path": "https://raw.githubusercontent.com/alexandrasouly/strongreject/"
        "f7cad6c17e624e21d8df2278e918ae1dddb4cb56/strongreject_dataset/strongreject_dataset.csv",
        "columns": {"text": "forbidden_prompt", "category": "category"},
        "kind": "harmful",
        "rows": 313,
    },
    licence="MIT",
    citation="Souly et al. 2024, A StrongREJECT for Empty Jailbreaks, arXiv:2402.10260",
    overlaps={"advbench": 25, "maliciousinstruct": 12},
)
