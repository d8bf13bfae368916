"""Arms on the same prompts: difference, paired test, its p after Holm's correction, and what so many could show."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from pydantic import BaseModel

from presafe.config.attacks import NO_ATTACK
from presafe.evaluate.by_prompt import ByPrompt, Cell, Condition
from presafe.evaluate.labels import NO_LABELS, Labels, asked, attack_of
from presafe.evaluate.measurements import OUTCOME
from presafe.evaluate.table import TITLES, shown_p
from presafe.records import Kind
from presafe.statistics.multiplicity import holm
from presafe.statistics.paired import Pairs, Test, paired_difference, paired_p
from presafe.statistics.power import smallest_effect

ALPHA = 0.05


class Comparison(BaseModel):
    """`difference` of a suite's metric between two arms, first less second, with its paired 95 % interval.

    `attack` is that of a Measurement. `n` prompts were scored in both arms, `left_out` were not. `p_holm` is `p`
    corrected over the suites of the question under that attack; `smallest_effect` what n prompts show with 80 % power
    at that correction's first step, where as many change against the difference as did here, None where n is too small
    for any. `difference` and `p` are None where nothing was scored in both arms or one of them claims no value.
    """

    question: str
    suite: str
    attack: str
    metric: str
    first: Condition
    second: Condition
    difference: float | None = None
    ci_low: float = -1.0
    ci_high: float = 1.0
    n: int
    left_out: int
    test: Test | None = None
    p: float | None = None
    p_holm: float | None = None
    smallest_effect: float | None = None


class Question(NamedTuple):
    """What families of comparisons ask, one an attack, with a comparison a suite."""

    title: str
    first: Condition
    second: Condition


BASE, ALIGNED = (Condition(model, "on", "off") for model in ("base", "aligned"))
QUESTIONS = (
    Question("aligned against base", ALIGNED, BASE),
    Question("aligned: gate on against off", replace(ALIGNED, gate="on"), ALIGNED),
    Question("base: CoT off against on", replace(BASE, cot="off"), BASE),
    Question("aligned: CoT off against on", replace(ALIGNED, cot="off"), ALIGNED),
)


def compare(
    by_prompt: ByPrompt,
    kinds: Mapping[str, Kind],
    claimless: Collection[tuple[Cell, Condition]],
    labels: Labels = NO_LABELS,
) -> Iterator[Comparison]:
    """Every question's comparisons, suites in the order of `kinds`, as they are and then attack by attack; `claimless`
    are cells and arms without a value."""
    for question in QUESTIONS:
        yield from answered(by_prompt, question, kinds, claimless, labels)


def answered(
    by_prompt: ByPrompt,
    question: Question,
    kinds: Mapping[str, Kind],
    claimless: Collection[tuple[Cell, Condition]],
    labels: Labels = NO_LABELS,
) -> Iterator[Comparison]:
    """The question's comparisons; none where one of its arms was not measured.

    Each attack is a family of its own, over which p is corrected: a further one changes nothing that is said of the
    others.
    """
    if not {question.first, question.second} <= by_prompt.answers.keys():
        return
    order, families = [*kinds], dict[str, list[Cell]]()
    for cell in sorted(by_prompt.cells, key=lambda cell: (order.index(cell.suite), cell.attack)):
        families.setdefault(attack_of(labels.get(cell.suite, NO_ATTACK), cell.attack), []).append(cell)
    for attack in sorted(families, key=lambda name: (name != NO_ATTACK, name)):
        yield from _family(by_prompt, question, attack, families[attack], kinds, claimless)


def _family(
    by_prompt: ByPrompt,
    question: Question,
    attack: str,
    cells: list[Cell],
    kinds: Mapping[str, Kind],
    claimless: Collection[tuple[Cell, Condition]],
) -> list[Comparison]:
    found, tested = list[Comparison](), list[tuple[Comparison, Pairs]]()
    for cell in cells:
        pairs, left_out = by_prompt.pairs(cell, question.first, question.second)
        if attack != NO_ATTACK and not pairs.n:  # a prefill is not asked with chain-of-thought off
            continue
        comparison = Comparison(
            question=question.title,
            suite=cell.suite,
            attack=attack,
            metric=OUTCOME[kinds[cell.suite]][0],
            first=question.first,
            second=question.second,
            n=pairs.n,
            left_out=left_out,
        )
        found.append(comparison)
        if pairs.n and not {(cell, question.first), (cell, question.second)} & {*claimless}:
            tested.append((comparison, pairs))
    p = [paired_p(pairs) for _, pairs in tested]
    for (comparison, pairs), uncorrected, corrected in zip(tested, p, holm(p), strict=True):
        comparison.difference, comparison.ci_low, comparison.ci_high = paired_difference(pairs)
        comparison.test, comparison.p, comparison.p_holm = pairs.test, uncorrected, corrected
        comparison.smallest_effect = smallest_effect(pairs.n, min(pairs.switched()), ALPHA / len(tested))
    return found


def tests(found: Sequence[Comparison]) -> list[str]:
    """The tests that were used, for the page."""
    titles: dict[Test, str] = {"McNemar": "McNemar's exact test", "sign flips": "sign-flip test over prompts"}
    return [title for test, title in titles.items() if any(one.test == test for one in found)]


def comparison_table(found: Sequence[Comparison]) -> list[list[str]]:
    """For the page, in percentage points, with a header; empty without any."""
    if not found:
        return []
    header = ["question", "metric", "suite", "difference (points)", "p (Holm)", "smallest effect", "prompts"]
    return [header, *map(_row, found)]


def _row(one: Comparison) -> list[str]:
    names = [one.question, TITLES[one.metric], asked(one.suite, one.attack)]
    prompts = f"{one.n}" + (f" ({one.left_out} left out)" if one.left_out else "")
    if one.difference is None or one.p_holm is None:
        return [*names, "no claim", "-", "-", prompts]
    difference, low, high = 100 * one.difference, 100 * one.ci_low, 100 * one.ci_high
    smallest = "-" if one.smallest_effect is None else f"{100 * one.smallest_effect:.1f}"
    return [*names, f"{difference:+.1f} [{low:+.1f}, {high:+.1f}]", shown_p(one.p_holm), smallest, prompts]
