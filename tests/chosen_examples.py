"""Training examples as the stage chooses them, in one process and from two tables."""

from collections import Counter
from collections.abc import Mapping, Sequence

from presafe.align.examples.candidates import Candidate, Making, Sources
from presafe.align.examples.selection import check, counted, examples
from presafe.config import Align
from presafe.records import Demonstration, Example, Prompt, schema, to_table
from presafe.thinking import ThinkFormat


def chosen_examples(
    prompts: Sequence[Prompt],
    sources: Sources,
    think: ThinkFormat,
    align: Align,
    seed: int,
    weights: Mapping[str, float] | None = None,
    ready: Sequence[Demonstration] = (),
) -> tuple[list[Example], Counter[str]]:
    """The examples in their order, and counts of what was left out."""
    skipped, counts = Counter[str](), Counter[str]()
    made = to_table(list(Making(think, align, seed, weights or {})(prompts, ready, sources, skipped)), Candidate)
    half = len(made) // 2
    tables = list(
        counted(examples(lambda: iter([made.slice(0, half), made.slice(half)]), align, seed), counts, Counter())
    )
    check(counts, align)
    names = schema(Example).names
    return [Example(**row) for table in tables for row in table.select(names).to_pylist()], skipped
