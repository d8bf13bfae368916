"""Shares of each arm by suite: the mean over its runs, the lowest and the highest of them."""

from collections.abc import Iterator, Sequence

from pydantic import BaseModel

from presafe.config.attacks import NO_ATTACK
from presafe.evaluate.compare.runs import kinds_of
from presafe.evaluate.measurements import Measurement
from presafe.evaluate.study.looks import Look, by_arm
from presafe.evaluate.table import TITLES


class Share(BaseModel):
    """A metric of an arm on a suite: `mean` of `runs` runs, each with at least `least` scored answers, `n` in all.

    The mean is None where no run claims a value; `claimless` runs of it do not.
    """

    arm: str
    suite: str
    metric: str
    mean: float | None
    lowest: float | None
    highest: float | None
    runs: int
    claimless: int
    n: int
    least: int


def shares(found: Sequence[Look], metrics: Sequence[str]) -> Iterator[Share]:
    """Metric by metric, suite by suite, arm by arm."""
    kinds = [*kinds_of([look.run for look in found])]
    every = {(arm, key): values for arm, own in by_arm(found).items() for key, values in _values(own, metrics).items()}
    order = {key: None for _, key in every}
    for metric in metrics:
        suites = sorted((key for key in order if key[0] == metric), key=lambda key: (kinds.index(key[1]), key[2:]))
        for key in suites:
            for arm in by_arm(found):
                if (measured := every.get((arm, key))) is not None:
                    yield _share(arm, metric, measured)


def _values(own: Sequence[Look], metrics: Sequence[str]) -> dict[tuple[str, str, bool, str], list[Measurement]]:
    """By metric, suite, whether it is attacked, and the name of both: what each run measured."""
    values = dict[tuple[str, str, bool, str], list[Measurement]]()
    for look in own:
        for m in look.run.measured.measurements:
            if m.metric in metrics and (m.model, m.cot, m.gate) == _mode(look):
                values.setdefault((m.metric, m.suite, m.attack != NO_ATTACK, m.asked), []).append(m)
    return values


def _mode(look: Look) -> tuple[str, str, str]:
    return look.condition.model, look.condition.cot, look.condition.gate


def _share(arm: str, metric: str, measured: Sequence[Measurement]) -> Share:
    values = [m.value for m in measured if m.value is not None]
    return Share(
        arm=arm,
        suite=measured[0].asked,
        metric=metric,
        mean=sum(values) / len(values) if values else None,
        lowest=min(values, default=None),
        highest=max(values, default=None),
        runs=len(values),
        claimless=len(measured) - len(values),
        n=sum(m.n for m in measured),
        least=min(m.n for m in measured),
    )


def share_table(found: Sequence[Share]) -> list[list[str]]:
    """A row an arm, a column a suite: percent, mean [lowest, highest], with a header; empty without any."""
    columns = list(dict.fromkeys((one.metric, one.suite) for one in found))
    if not columns:
        return []
    cells = {(one.arm, one.metric, one.suite): one for one in found}
    arms = list(dict.fromkeys(one.arm for one in found))
    header = ["arm", *(f"{TITLES[metric]}: {suite}" for metric, suite in columns), "runs", "answers", "fewest"]
    return [header, *([arm, *(_percent(cells.get((arm, *c))) for c in columns), *_counts(found, arm)] for arm in arms)]


def _percent(share: Share | None) -> str:
    if share is None:
        return "-"
    if share.mean is None or share.lowest is None or share.highest is None:
        return "no claim"
    return f"{100 * share.mean:.1f} [{100 * share.lowest:.1f}, {100 * share.highest:.1f}]"


def _counts(found: Sequence[Share], arm: str) -> list[str]:
    own = [one for one in found if one.arm == arm]
    runs, answers = max(one.runs + one.claimless for one in own), sum(one.n for one in own)
    return [f"{runs}", f"{answers}", f"{min(one.least for one in own)}"]
