"""Training texts that are in an evaluation suite: the same, nearly the same, or one inside the other."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from presafe.config import NearDuplicates
from presafe.conversation import said_by_users
from presafe.prompts.near import Sketch, pairs_between, sketch, words
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

    def named(self, source: str, prompt_id: str) -> SuiteOverlap:
        """With the source and id of the text in place of its number."""
        return SuiteOverlap(
            suite=self.suite.source,
            prompt_id=self.suite.prompt_id,
            source=source,
            training_prompt_id=prompt_id,
            form=self.form,
            similarity=self.similarity,
        )


class References:
    """The prompts of suites, by what their users say, prepared once to be compared with many texts."""

    def __init__(self, suites: Sequence[Prompt], settings: NearDuplicates) -> None:
        self._suites, self._settings = suites, settings
        texts = [said_by_users(prompt.earlier, prompt.text) for prompt in suites]
        self._sketch = self._sketched(texts)
        self._sentences = [words(text) for text in texts]
        self._keys: dict[str, list[int]] = defaultdict(list)
        self._first: dict[tuple[str, ...], set[int]] = defaultdict(set)
        self._anywhere: dict[tuple[str, ...], set[int]] = defaultdict(set)
        for reference, sentence in enumerate(self._sentences):
            self._keys[dedupe_key(texts[reference])].append(reference)
            for k, gram in enumerate(_grams(sentence)):
                self._anywhere[gram].add(reference)
                if k == 0:
                    self._first[gram].add(reference)

    def overlaps(self, texts: Sequence[str], own: Sketch | None = None) -> list[Overlap]:
        """All overlaps of `texts` with the suites' prompts, at most one a text and suite prompt, in their order.

        `own` is the sketch of `texts` where there is one.
        """
        if not self._suites:
            return []
        found: dict[tuple[int, int], Overlap] = {}
        near = pairs_between(self._sketch, own or self._sketched(texts), self._settings.contamination_threshold)
        pairs: dict[OverlapForm, Iterable[tuple[int, int, float | None]]] = {
            "contained": self._contained(texts),
            "near": near,
            "exact": self._exact(texts),
        }
        for form, one in pairs.items():
            for reference, text, similarity in one:
                found[text, reference] = Overlap(text, self._suites[reference], form, similarity)
        return [found[key] for key in sorted(found)]

    def _sketched(self, texts: Sequence[str]) -> Sketch:
        return sketch(texts, self._settings.shingle_words, self._settings.permutations)

    def _exact(self, texts: Sequence[str]) -> Iterable[tuple[int, int, float | None]]:
        for number, text in enumerate(texts):
            yield from ((reference, number, 1.0) for reference in self._keys.get(dedupe_key(text), ()))

    def _contained(self, texts: Sequence[str]) -> Iterable[tuple[int, int, float | None]]:
        """Pairs of which one text's words stand in the other as they are."""
        for number, text in enumerate(texts):
            own = words(text)
            grams = _grams(own)
            shorter = {reference for gram in grams for reference in self._first.get(gram, ())}
            longer = self._anywhere.get(grams[0], set()) if grams else set()
            for reference in shorter | longer:
                sentence = self._sentences[reference]
                if _stands_in(own, sentence) or _stands_in(sentence, own):
                    yield reference, number, None


def table(overlaps: Iterable[SuiteOverlap]) -> list[dict[str, Any]]:
    """Source x suite: how many prompts overlap, each by its strongest form; how many of the suite's do; examples."""
    best: dict[tuple[str, str], dict[str, SuiteOverlap]] = defaultdict(dict)
    suite_prompts: dict[tuple[str, str], set[str]] = defaultdict(set)
    for overlap in overlaps:
        suite_prompts[overlap.source, overlap.suite].add(overlap.prompt_id)
        cell = best[overlap.source, overlap.suite]
        known = cell.get(overlap.training_prompt_id)
        if known is None or FORMS.index(overlap.form) < FORMS.index(known.form):
            cell[overlap.training_prompt_id] = overlap
    return [
        {
            "source": source,
            "suite": suite,
            **{form: sum(overlap.form == form for overlap in cell.values()) for form in FORMS},
            "suite_prompts": len(suite_prompts[source, suite]),
            "examples": [_example(overlap) for overlap in list(cell.values())[:EXAMPLES]],
        }
        for (source, suite), cell in sorted(best.items())
    ]


def _example(overlap: SuiteOverlap) -> dict[str, Any]:
    own, other = overlap.training_prompt_id, overlap.prompt_id
    return {"prompt_id": own, "suite_prompt_id": other, "form": overlap.form, "similarity": overlap.similarity}


def _grams(sentence: list[str]) -> list[tuple[str, ...]]:
    return [tuple(sentence[k : k + CONTAINED_WORDS]) for k in range(len(sentence) - CONTAINED_WORDS + 1)]


def _stands_in(short: list[str], long: list[str]) -> bool:
    return f" {' '.join(short)} " in f" {' '.join(long)} "
