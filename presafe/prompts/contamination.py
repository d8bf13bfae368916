"""Training texts that are in an evaluation suite: the same, nearly the same, or one inside the other."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from presafe.config import NearDuplicates
from presafe.conversation import joined, messages, user_turns
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
    """The prompts of suites, by what their users say, prepared once to be compared with many conversations.

    A conversation is compared as a whole and turn by turn; of a suite's, a turn by itself counts from CONTAINED_WORDS
    words on: many a conversation has "go on" in it.
    """

    def __init__(self, suites: Sequence[Prompt], settings: NearDuplicates) -> None:
        self._settings = settings
        texts = [(prompt, text) for prompt in suites for text in _references(prompt)]
        self._prompts = [prompt for prompt, _ in texts]
        self._sketch = self._sketched([text for _, text in texts])
        self._sentences = [words(text) for _, text in texts]
        self._keys: dict[str, list[int]] = defaultdict(list)
        self._first: dict[tuple[str, ...], set[int]] = defaultdict(set)
        self._anywhere: dict[tuple[str, ...], set[int]] = defaultdict(set)
        for reference, sentence in enumerate(self._sentences):
            self._keys[dedupe_key(texts[reference][1])].append(reference)
            for k, gram in enumerate(_grams(sentence)):
                self._anywhere[gram].add(reference)
                if k == 0:
                    self._first[gram].add(reference)

    def overlaps(self, asked: Sequence[Sequence[str]], own: Sketch | None = None) -> list[Overlap]:
        """All overlaps of conversations, each the turns of its users, with the suites' prompts, in their order.

        At most one a conversation and suite prompt, the strongest; `own` is the sketch of whole conversations where
        there is one.
        """
        if not self._prompts:
            return []
        turns = [(number, turn) for number, one in enumerate(asked) if len(one) > 1 for turn in one]
        found = self._compared([*enumerate(map(joined, asked))], own) + self._compared(turns)
        found.sort(key=lambda overlap: -FORMS.index(overlap.form))
        best = {(overlap.text, overlap.suite.source, overlap.suite.prompt_id): overlap for overlap in found}
        order = {(prompt.source, prompt.prompt_id): k for k, prompt in enumerate(self._prompts)}
        return sorted(best.values(), key=lambda o: (o.text, order[o.suite.source, o.suite.prompt_id]))

    def _compared(self, numbered: Sequence[tuple[int, str]], own: Sketch | None = None) -> list[Overlap]:
        """The overlaps of texts, each with the number of its conversation."""
        if not numbered:
            return []
        texts = [text for _, text in numbered]
        near = pairs_between(self._sketch, own or self._sketched(texts), self._settings.contamination_threshold)
        pairs: dict[OverlapForm, Iterable[tuple[int, int, float | None]]] = {
            "contained": self._contained(texts),
            "near": near,
            "exact": self._exact(texts),
        }
        return [
            Overlap(numbered[text][0], self._prompts[reference], form, similarity)
            for form, one in pairs.items()
            for reference, text, similarity in one
        ]

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


def _references(prompt: Prompt) -> list[str]:
    """The whole of what is said, and of several turns the longer ones."""
    turns = user_turns(messages(prompt))
    longer = [turn for turn in turns if len(words(turn)) >= CONTAINED_WORDS] if len(turns) > 1 else []
    return [joined(turns), *longer]


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
