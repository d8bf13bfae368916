"""Gather the prompts of all suites and sources, without exact duplicates and without what is contaminated."""

from collections import Counter
from collections.abc import Sequence

from presafe.config import Prompts, Suite
from presafe.errors import user_error
from presafe.prompts.checks import RawPrompt
from presafe.prompts.contamination import find_overlaps, table
from presafe.prompts.load import load_source
from presafe.prompts.normalise import dedupe_key
from presafe.prompts.report import Report
from presafe.records import Prompt, Split, prompt_id


def gather_suites(suites: Sequence[Suite], settings: Prompts, seed: int, report: Report) -> list[Prompt]:
    """The prompts of every suite, without a suite's own exact duplicates."""
    prompts: list[Prompt] = []
    for suite in suites:
        loaded = load_source(suite, settings, seed, attacks=True)
        unique = _suite(suite, loaded.good)
        counts = report.suites[suite.name]
        counts.read, counts.kept, counts.filtered = loaded.read, len(unique), loaded.filtered
        counts.exact_duplicates = len(loaded.good) - len(unique)
        counts.set_aside(loaded.bad)
        report.bad += loaded.bad
        prompts += unique
    return prompts


def gather_sources(settings: Prompts, seed: int, report: Report) -> list[Prompt]:
    """Training prompts without exact duplicates (the first source keeps its own); all in split `align` as yet."""
    unique: dict[str, Prompt] = {}
    for source in settings.sources:
        loaded = load_source(source, settings, seed, attacks=False)
        counts = report.sources[source.name]
        counts.read, counts.filtered = loaded.read, loaded.filtered
        counts.set_aside(loaded.bad)
        report.bad += loaded.bad
        for raw in loaded.good:
            record = _record(source.name, raw, "align")
            if unique.setdefault(dedupe_key(raw.text), record) is not record:
                counts.exact_duplicates += 1
    return list(unique.values())


def decontaminate(prompts: list[Prompt], suites: list[Prompt], settings: Prompts, report: Report) -> list[Prompt]:
    """Drop what is like a prompt of a suite. Raises UserError where that is too much of a source."""
    overlaps = find_overlaps(suites, [prompt.text for prompt in prompts], settings.near_duplicates)
    report.contamination["prompts"] = table(overlaps, prompts)
    dropped = {overlap.text for overlap in overlaps}
    unique = Counter(prompt.source for prompt in prompts)
    for source, count in Counter(prompts[number].source for number in dropped).items():
        report.sources[source].contaminated = count
        if count > settings.max_contaminated_share * unique[source]:
            raise user_error(
                found=f"{count} of {unique[source]} prompts of source {source!r} in the evaluation suites",
                needed=f"at most a share of {settings.max_contaminated_share:g}",
                change="take the source or the suite out, or raise prompts.max_contaminated_share",
            )
    return [prompt for number, prompt in enumerate(prompts) if number not in dropped]


def _suite(suite: Suite, prompts: list[RawPrompt]) -> list[Prompt]:
    kinds = {raw.kind for raw in prompts}
    if len(kinds) != 1:
        raise user_error(
            found=f"suite {suite.name!r} with prompts of kinds {', '.join(sorted(kinds))}",
            needed="one kind, which decides the suite's metric",
            change="split it into one suite a kind",
        )
    unique = {dedupe_key(raw.text): raw for raw in prompts}
    return [_record(suite.name, raw, "evaluate") for raw in unique.values()]


def _record(source: str, raw: RawPrompt, split: Split) -> Prompt:
    own = prompt_id(raw.text)
    return Prompt(own, raw.text, raw.kind, source, raw.category, raw.reference, split, cluster=own, wrapper=None)
