"""Training texts that are in an evaluation suite: the same, nearly the same, or one inside the other."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from presafe.config import NearDuplicates
from presafe.prompts.near import pairs_between, sketch, words
from presafe.prompts.normalise import dedupe_key
from presafe.records import OverlapForm, Prompt, SuiteOverlap

FORMS: tuple[OverlapForm, ...] = ("exact", "near", "contained")
"""Strongest first."""
EXAMPLES = 3
"""Of each cell of the table."""
CONTAINED_WORDS = 8
"""A text of so many words inside another one is that text in a wrapper; a shorter one may be a phrase."""


@dataclass(frozen=True)
class Overlap:
    """A text's likeness to one suite's prompt; `similarity` is Jaccard's, 1 for an exact one."""

    text: int
    suite: Prompt
    form: OverlapForm
    similarity: float | None


def find_overlaps(suites: list[Prompt], texts: list[str], settings: NearDuplicates) -> list[Overlap]:
    """All overlaps of `texts` with the prompts of `suites`, at most one a text and suite prompt, in their order."""
    found: dict[tuple[int, int], Overlap] = {}
    for form, pairs in (
        ("contained", _contained(suites, texts)),
        ("near", _near(suites, texts, settings)),
        ("exact", _exact(suites, texts)),
    ):
        for reference, text, similarity in pairs:
            found[text, reference] = Overlap(text, suites[reference], form, similarity)  # type: ignore[arg-type]
    return [found[key] for key in sorted(found)]


def suite_overlaps(overlaps: Iterable[Overlap], prompts: list[Prompt]) -> list[SuiteOverlap]:
    """Rows that name both prompts by their ids; `prompts` by text number."""
    return [
        SuiteOverlap(
            suite=overlap.suite.source,
            prompt_id=overlap.suite.prompt_id,
            source=prompts[overlap.text].source,
            training_prompt_id=prompts[overlap.text].prompt_id,
            form=overlap.form,
            similarity=overlap.similarity,
        )
        for overlap in overlaps
    ]


def table(overlaps: Iterable[Overlap], prompts: list[Prompt]) -> list[dict[str, Any]]:
    """Source x suite: how many prompts overlap, each by its strongest form, with how many of the suite's, and examples.

    `prompts` by text number.
    """
    best: dict[tuple[str, str], dict[int, Overlap]] = defaultdict(dict)
    suite_prompts: dict[tuple[str, str], set[str]] = defaultdict(set)
    for overlap in overlaps:
        pair = prompts[overlap.text].source, overlap.suite.source
        suite_prompts[pair].add(overlap.suite.prompt_id)
        cell = best[pair]
        known = cell.get(overlap.text)
        if known is None or FORMS.index(overlap.form) < FORMS.index(known.form):
            cell[overlap.text] = overlap
    return [
        {
            "source": source,
            "suite": suite,
            **{form: sum(overlap.form == form for overlap in cell.values()) for form in FORMS},
            "suite_prompts": len(suite_prompts[source, suite]),
            "examples": [_example(overlap, prompts) for overlap in list(cell.values())[:EXAMPLES]],
        }
        for (source, suite), cell in sorted(best.items())
    ]


def _example(overlap: Overlap, prompts: list[Prompt]) -> dict[str, Any]:
    own, other = prompts[overlap.text].prompt_id, overlap.suite.prompt_id
    return {"prompt_id": own, "suite_prompt_id": other, "form": overlap.form, "similarity": overlap.similarity}


def _exact(suites: list[Prompt], texts: list[str]) -> Iterable[tuple[int, int, float | None]]:
    keys: dict[str, list[int]] = defaultdict(list)
    for reference, prompt in enumerate(suites):
        keys[dedupe_key(prompt.text)].append(reference)
    for number, text in enumerate(texts):
        yield from ((reference, number, 1.0) for reference in keys.get(dedupe_key(text), ()))


def _near(suites: list[Prompt], texts: list[str], settings: NearDuplicates) -> Iterable[tuple[int, int, float | None]]:
    references = sketch([prompt.text for prompt in suites], settings.shingle_words, settings.permutations)
    own = sketch(texts, settings.shingle_words, settings.permutations)
    return pairs_between(references, own, settings.contamination_threshold)


def _contained(suites: list[Prompt], texts: list[str]) -> Iterable[tuple[int, int, float | None]]:
    """Pairs of which one text's words stand in the other as they are."""
    sentences = [words(prompt.text) for prompt in suites]
    first: dict[tuple[str, ...], set[int]] = defaultdict(set)
    anywhere: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for reference, sentence in enumerate(sentences):
        for k, gram in enumerate(_grams(sentence)):
            anywhere[gram].add(reference)
            if k == 0:
                first[gram].add(reference)
    for number, text in enumerate(texts):
        own = words(text)
        grams = _grams(own)
        shorter = {reference for gram in grams for reference in first.get(gram, ())}
        longer = anywhere.get(grams[0], set()) if grams else set()
        for reference in shorter | longer:
            if _stands_in(own, sentences[reference]) or _stands_in(sentences[reference], own):
                yield reference, number, None


def _grams(sentence: list[str]) -> list[tuple[str, ...]]:
    return [tuple(sentence[k : k + CONTAINED_WORDS]) for k in range(len(sentence) - CONTAINED_WORDS + 1)]


def _stands_in(short: list[str], long: list[str]) -> bool:
    return f" {' '.join(short)} " in f" {' '.join(long)} "
