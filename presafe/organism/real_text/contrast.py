"""Pairs of prompts with words in common, one benign and one harmful: text that sounds dangerous and is not.

Public prompts of this kind are suites, or behind a form. Every fourth word and every fourth sentence is held out.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product, zip_longest
from typing import Any

from presafe.organism.options import parse
from presafe.organism.real_text import contrast_words as words
from presafe.organism.real_text.options import ContrastOptions, Recipe
from presafe.organism.sources import Row


@dataclass(frozen=True)
class Contrast:
    """What may be asked about one word, harmlessly and harmfully, in any of the `forms`."""

    benign: Sequence[str]
    harmful: Sequence[str]
    forms: Sequence[str]


def contrast_prompts(seed: int, **options: Any) -> Iterator[Row]:
    """Training prompts, or those of a suite: see ContrastOptions. Raises UserError for an unknown or wrong option."""
    wanted = parse(ContrastOptions, "presafe.organism.real_text:contrast_prompts", seed=seed, **options)
    return drawn(str(wanted.seed), pairs=wanted.pairs, held_out=wanted.held_out)


def drawn(draw: str, *, pairs: int, held_out: bool = False) -> Iterator[Row]:
    """A benign and a harmful prompt in turn, `pairs` of each, no text twice, kind after kind; another `draw`, others.

    The two of a pair share a word and a form. With `held_out` both are of words and forms that no pair has without it.
    Yields fewer where there are not so many.
    """
    rng = random.Random(f"contrast/{draw}/{held_out}")
    by_kind = [_pairs(kind, about, rng) for kind, about in contrasts(held_out=held_out).items()]
    in_turn = (pair for turn in zip_longest(*by_kind) for pair in turn if pair)
    return (row for pair in islice(in_turn, pairs) for row in pair)


def taught_pairs(recipe: Recipe) -> dict[str, list[str]]:
    """The texts that this recipe teaches on, by kind; a run's own draw has others, but for a few by chance."""
    rows = list(drawn(f"base {recipe.seed}", pairs=recipe.contrast))
    return {kind: [str(row["text"]) for row in rows if row["kind"] == kind] for kind in ("harmful", "benign")}


def contrasts(*, held_out: bool) -> dict[str, list[Contrast]]:
    """All that pairs are drawn from, by kind."""

    def part(texts: Iterable[str]) -> list[str]:
        return [text for place, text in enumerate(texts) if (place % 4 == 3) == held_out]

    tasks, questions, reasons = part(words.TASKS), part(words.QUESTIONS), part(words.REASONS)
    safe, real = part(words.SAFE_PLACES), part(words.REAL_PLACES)
    return {
        "other_senses": _verbs(words.OTHER_SENSES, part(words.OTHER_SENSES), tasks),
        "figures": _verbs(words.FIGURES, part(words.FIGURES), tasks),
        "targets": _verbs(words.TARGETS, part(words.TARGETS), tasks),
        "objects": [Contrast(*words.OBJECTS[word], forms=part(words.PURCHASES)) for word in part(words.OBJECTS)],
        "places": [Contrast(_both([act], safe), _both([act], real), tasks) for act in part(words.ACTS)],
        "crimes": _questions(part(words.CRIMES), part(words.ABOUT_CRIMES), part(words.FOR_CRIMES)),
        "events": _questions(part(words.EVENTS), part(words.ABOUT_EVENTS), part(words.FOR_EVENTS)),
        "persons": [
            Contrast(
                _both([f"the {attribute} of"], words.KNOWN), _both([f"the {attribute} of"], words.PRIVATE), questions
            )
            for attribute in part(words.ATTRIBUTES)
        ],
        "groups": [
            Contrast(
                [*_both(words.THINGS, [f"should not {right}"]), *_both(words.GROUPS, [f"cannot {miracle}"])],
                _both(words.GROUPS, [f"should not {right}"]),
                reasons,
            )
            for right, miracle in zip(part(words.RIGHTS), part(words.MIRACLES), strict=True)
        ],
    }


def _verbs(table: words.Verbs, verbs: Iterable[str], forms: Sequence[str]) -> list[Contrast]:
    return [Contrast(_both([verb], table[verb][0]), _both([verb], table[verb][1]), forms) for verb in verbs]


def _questions(nouns: Iterable[str], benign: Sequence[str], harmful: Sequence[str]) -> list[Contrast]:
    return [Contrast([q.format(noun) for q in benign], [q.format(noun) for q in harmful], ["{}"]) for noun in nouns]


def _both(first: Sequence[str], then: Sequence[str]) -> list[str]:
    return [f"{one} {other}" for one, other in product(first, then)]


def _pairs(kind: str, about: Iterable[Contrast], rng: random.Random) -> Iterator[tuple[Row, Row]]:
    asked = [(it, form, phrase) for it in about for form in it.forms for phrase in it.benign]
    rng.shuffle(asked)
    used = set[str]()
    for it, form, phrase in asked:
        if left := [text for text in map(form.format, it.harmful) if text not in used]:
            harmful = rng.choice(left)
            used.add(harmful)
            yield _row(form.format(phrase), "benign", kind), _row(harmful, "harmful", kind)


def _row(text: str, kind: str, category: str) -> Row:
    return {"text": text, "kind": kind, "category": category, "reference": None}
