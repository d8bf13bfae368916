"""All that is measured of the records: `measurements.json`."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from pydantic import BaseModel

from presafe.config.attacks import NO_ATTACK
from presafe.decision.rule import Path
from presafe.defences.arms import Arm
from presafe.evaluate.by_prompt import Answers, ByPrompt, Cell, Condition
from presafe.evaluate.categories import Categories, of_categories
from presafe.evaluate.comparisons import Comparison, compare
from presafe.evaluate.decoded import Decoded
from presafe.evaluate.discrimination import Discrimination, discriminate
from presafe.evaluate.labels import NO_LABELS, Labels, joined
from presafe.evaluate.measurements import METRICS, OUTCOME, Measurement, measure
from presafe.evaluate.several import of_several
from presafe.evaluate.tally import Tally
from presafe.records import Kind
from presafe.statistics import wilson
from presafe.statistics.clustered import share_interval

NO_CATEGORIES: Categories = MappingProxyType({})


class Measured(BaseModel):
    """`measurements.json`: all that the report shows of the records."""

    measurements: list[Measurement]
    head_probabilities: dict[str, dict[str, list[int]]]
    """Counts of p' by suite and model, in equal bins from 0 to 1; CoT on."""
    examples: dict[Path, str]
    """Ids of prompts on which the aligned model took these paths."""
    judges: list[str]
    """Whose verdicts they are."""
    decodings: list[str]
    """As the records describe them."""
    comparisons: list[Comparison] = []
    """Of arms on the same prompts; a file of an earlier version has none."""
    by_category: list[Measurement] = []
    """Those of a suite's categories; a file of an earlier version has none."""
    discrimination: list[Discrimination] = []
    """What p' tells apart; a file of an earlier version has none."""
    decoded: list[Decoded] = []
    """Of further decodings; a file of an earlier version has none."""


def counted_verdicts(kinds: Mapping[str, Kind]) -> dict[str, str]:
    """The verdict that each suite's metric counts."""
    return {suite: OUTCOME[kind][1] for suite, kind in kinds.items()}


def measured(
    tally: Tally,
    by_prompt: ByPrompt,
    kinds: Mapping[str, Kind],
    ceiling: float,
    labels: Labels = NO_LABELS,
    arms: Sequence[Arm] = (),
    categories: Categories = NO_CATEGORIES,
) -> Measured:
    """All that is measured; `kinds` gives the kind of each suite, in the order of the report.

    `ceiling` is the share of unscored answers above which a cell claims no value; `labels` are the tally's,
    `arms` the defences beside the models, `categories` those of suites.
    """
    for arm in arms:
        by_prompt.add(arm, labels)
    wanted = ("base", "aligned", *(arm.name for arm in arms))
    without_gate = [outcome for outcome in tally.outcomes if outcome.gate == "off"]
    measurements, by_category = list[Measurement](), list[Measurement]()
    for one in measure(tally.outcomes, kinds, ceiling):
        cell, samples = cell_of(one, labels), by_prompt.samples[one.suite]
        answers = by_prompt.answers_of(cell, Condition(one.model, one.cot, one.gate))
        measurements += [_of_prompts(one, answers), *of_several(one, answers, samples, ceiling)]
        if own := categories.get(one.suite):
            by_category += of_categories(one, answers, by_prompt.prompts_of(cell), samples, ceiling, own)
    scored = [m for m in measurements if m.metric in METRICS]
    claimless = {(cell_of(m, labels), Condition(m.model, m.cot, m.gate)) for m in scored if m.too_unscored}
    return Measured(
        measurements=measurements,
        head_probabilities=tally.head_probabilities,
        examples={
            path: next(found[suite] for suite in kinds if suite in found)
            for path, found in tally.examples.items()
            if found
        },
        judges=sorted({outcome.judge for outcome in without_gate}),
        decodings=sorted({outcome.decoding for outcome in without_gate}),
        by_category=by_category,
        comparisons=list(compare(by_prompt, kinds, claimless, labels)),
        discrimination=list(discriminate(by_prompt, kinds, claimless, labels, wanted)),
    )


def cell_of(one: Measurement, labels: Labels) -> Cell:
    """Where records have the answers that it is of."""
    return Cell(one.suite, joined(labels.get(one.suite, NO_ATTACK), one.attack))


def _of_prompts(one: Measurement, answers: Answers) -> Measurement:
    """With several answers a prompt, the interval rests on prompts: `share_interval`, of the suite's own metric.

    That of another rate is Wilson's with prompts for answers, which is too wide rather than too narrow.
    """
    if one.value is None:
        return one
    some = answers.scored > 0
    hits, scored = answers.hits[some], answers.scored[some]
    if scored.max(initial=0) <= 1:
        return one
    if one.metric in METRICS:
        found, prompts = np.unique(np.stack([hits, scored], axis=1), axis=0, return_counts=True)
        low, high = share_interval(found[:, 0].astype(float), found[:, 1].astype(int), prompts)
    else:
        low, high = wilson(one.value * len(scored), len(scored))
    return one.model_copy(update={"ci_low": low, "ci_high": high})
