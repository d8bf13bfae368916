"""The pairs of arms that a study compares: differences on the same prompts, and tests corrected over all of them."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from pydantic import BaseModel

from presafe.config.attacks import NO_ATTACK
from presafe.evaluate.by_prompt import ByPrompt, Cell
from presafe.evaluate.compare.runs import kinds_of
from presafe.evaluate.labels import asked, attack_of
from presafe.evaluate.measured import cell_of
from presafe.evaluate.measurements import METRICS, OUTCOME
from presafe.evaluate.study.apart import AREA, FIGURES, Apart
from presafe.evaluate.study.looks import Key, Look, by_arm, by_prompt, common
from presafe.evaluate.table import TITLES, shown_p
from presafe.statistics.multiplicity import holm
from presafe.statistics.paired import paired_difference, paired_p


class Claim(BaseModel):
    """`difference` of a figure between an arm and its reference, with its paired 95 % interval over prompts.

    Both are of the same bases and seeds; what has no seed is of every one. `n` prompts are in it, each with the answers
    of all bases and seeds that were asked it; `left_out` were not scored in both.
    `p_holm` is p corrected over all claims of the study. `lowest` and `highest` are the differences of single runs of
    one base and seed, of which there are `runs`: the interval is of these bases and seeds, and they say how far another
    one may be off. Without a value where nothing was scored in both, or one of them claims none.
    """

    arm: str
    reference: str
    figure: str
    difference: float | None = None
    ci_low: float = -1.0
    ci_high: float = 1.0
    p: float | None = None
    p_holm: float | None = None
    n: int
    left_out: int
    lowest: float | None = None
    highest: float | None = None
    runs: int = 0


def claims(compare: Sequence[tuple[str, str]], found: Sequence[Look], apart: Apart | None) -> list[Claim]:
    """Pair by pair: every suite, then what p' tells apart. A pair of which one has no run is left out."""
    every = list(chain.from_iterable(_claims(*pair, found, apart) for pair in compare))
    tested = [claim for claim in every if claim.p is not None]
    corrected = holm([claim.p for claim in tested if claim.p is not None])
    for claim, p in zip(tested, corrected, strict=True):
        claim.p_holm = p
    return every


def _claims(arm: str, reference: str, found: Sequence[Look], apart: Apart | None) -> Iterator[Claim]:
    arms = by_arm(found)
    if arm in arms and reference in arms:
        yield from _of_suites(arms[arm], arms[reference])
    if apart is not None and {arm, reference} <= {*apart.arms}:
        yield from _of_probabilities(arm, reference, apart)


def _of_suites(own: Sequence[Look], others: Sequence[Look]) -> Iterator[Claim]:
    both = common([look.key for look in own], [look.key for look in others])
    own, others = ([look for look in looks if look.key in both] for looks in (own, others))
    if not both:
        return
    every = [*own, *others]
    read, kinds = by_prompt(every, [look.arm for look in every]), kinds_of([look.run for look in every])
    order = [*kinds]
    for cell in sorted(read.cells, key=lambda cell: (order.index(cell.suite), cell.attack)):
        yield _of_suite(read, cell, OUTCOME[kinds[cell.suite]][0], own, others)


def _of_suite(read: ByPrompt, cell: Cell, metric: str, own: Sequence[Look], others: Sequence[Look]) -> Claim:
    pairs, left_out = read.pairs(cell, own[0].as_arm, others[0].as_arm)
    name = asked(cell.suite, attack_of(own[0].run.labels.get(cell.suite, NO_ATTACK), cell.attack))
    claim = Claim(
        arm=own[0].arm,
        reference=others[0].arm,
        figure=f"{TITLES[metric]}: {name}",
        n=pairs.n,
        left_out=left_out,
    )
    claimless = any((cell, look.as_beside) in look.run.claimless for look in (*own, *others))
    if pairs.n and not claimless:
        claim.difference, claim.ci_low, claim.ci_high = paired_difference(pairs)
        claim.p = paired_p(pairs)
        _add_runs(claim, _values(own, cell), _values(others, cell))
    return claim


def _of_probabilities(arm: str, reference: str, apart: Apart) -> Iterator[Claim]:
    for figure in FIGURES:
        pair, prompts = apart.pair(figure, arm, reference)
        if pair is None:
            return
        (value, low, high), p = pair.difference(0, 1)
        claim = Claim(
            arm=arm,
            reference=reference,
            figure=f"{figure} of p'",
            difference=value,
            ci_low=low,
            ci_high=high,
            p=p,
            n=prompts,
            left_out=0,
        )
        _add_runs(claim, apart.runs(figure, arm), apart.runs(figure, reference))
        yield claim


def _values(found: Sequence[Look], cell: Cell) -> dict[Key, float]:
    """The suite's own metric of each run."""
    return {
        look.key: m.value
        for look in found
        for m in look.run.measured.measurements
        if m.metric in METRICS
        and cell_of(m, look.run.labels) == cell
        and (m.model, m.cot, m.gate) == (look.condition.model, look.condition.cot, look.condition.gate)
        and m.value is not None
    }


def _add_runs(claim: Claim, own: Mapping[Key, float], others: Mapping[Key, float]) -> None:
    """Differences of runs of the same base and seed; what has no seed is the same beside every one."""
    both = common(own, others)
    seeds = {key for key in both if key[1] is not None} or both
    gaps = [_at(own, key) - _at(others, key) for key in seeds]
    claim.lowest, claim.highest, claim.runs = min(gaps, default=None), max(gaps, default=None), len(gaps)


def _at(runs: Mapping[Key, float], key: Key) -> float:
    return runs[key] if key in runs else runs[key[0], None]


def claim_table(found: Sequence[Claim]) -> list[list[str]]:
    """A row a claim, with a header; areas as they are, all else in points. Empty without any."""
    if not found:
        return []
    header = ["arm", "against", "figure", "difference", "p (Holm)", "single runs", "runs", "prompts"]
    return [header, *map(_row, found)]


def _row(one: Claim) -> list[str]:
    names = [one.arm, one.reference, one.figure]
    prompts = f"{one.n}" + (f" ({one.left_out} left out)" if one.left_out else "")
    if one.difference is None or one.p_holm is None:
        return [*names, "no claim", "-", "-", "0", prompts]
    scale, digits = (1, 3) if one.figure.startswith(AREA) else (100, 1)
    value, low, high = (f"{scale * x:+.{digits}f}" for x in (one.difference, one.ci_low, one.ci_high))
    runs = "-"
    if one.lowest is not None and one.highest is not None:
        runs = f"{scale * one.lowest:+.{digits}f} .. {scale * one.highest:+.{digits}f}"
    return [*names, f"{value} [{low}, {high}]", shown_p(one.p_holm), runs, f"{one.runs}", prompts]
