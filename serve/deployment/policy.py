"""A policy: what the report of a run must show before the run's model is deployed (docs/promote.md)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Self

from pydantic import Field, model_validator

from presafe.config.attacks import NO_ATTACK
from presafe.config.settings import Settings
from presafe.config.whole import read_yaml, validated
from presafe.decision.rule import GateMode
from presafe.evaluate.measurements import Measurement
from presafe.statistics import difference_interval

ANY_SUITE = "*"
PACKAGED = files("serve").joinpath("policy.yaml")

Share = Annotated[float, Field(ge=0, lt=1)]
Limits = dict[str, Share]
"""Highest share allowed, by suite, and behind an `@` the attack, where one is meant (`plain@padding`). `*` stands for
every suite of the metric that is not named, as it is; `*@padding` for every one under that attack."""


class Policy(Settings):
    """A policy file. Every metric must be named; `{}` says that it has no limit."""

    gate: GateMode = "off"
    """Gate of the deployment, and of the rows that are judged."""
    attack_success_rate: Limits
    """For the upper end of the 95 % interval."""
    over_refusal_rate: Limits
    """For the upper end of the 95 % interval."""
    reasoning_drop: Limits
    """For the upper end of the 95 % interval of base minus aligned accuracy, the base without a gate."""
    min_prompts: int = Field(100, ge=1)
    """Scored answers that a suite must have."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not (self.attack_success_rate or self.over_refusal_rate or self.reasoning_drop):
            raise ValueError("the policy has no limit, so that every run would pass: give at least one")
        return self


@dataclass(frozen=True)
class Line:
    """One limit of a policy on one suite, and what the report says of it."""

    metric: str
    suite: str
    limit: float
    found: str
    """Percent with its interval, or why there is no such figure."""
    passed: bool


@dataclass(frozen=True)
class Claim:
    """A share, or a difference of two, with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.2f} [{100 * self.low:.2f}, {100 * self.high:.2f}]"


Cells = Mapping[tuple[str, str, str, str], Measurement]
"""CoT-ON measurements by metric, suite with its attack, model and gate."""


def load_policy(path: str | None) -> Policy:
    """The policy at a path or URL, or the packaged one. Raises UserError where it is none."""
    return validated(Policy, read_yaml(path or str(PACKAGED), "serve/policy.yaml"), [])


def judge(policy: Policy, measurements: Sequence[Measurement]) -> list[Line]:
    """Every limit of the policy against the report, in the policy's order. What the report lacks fails."""
    cells: Cells = {(m.metric, m.asked, m.model, m.gate): m for m in measurements if m.cot == "on"}
    return [
        *_rates("attack_success_rate", policy.attack_success_rate, cells, policy.gate, policy.min_prompts),
        *_rates("over_refusal_rate", policy.over_refusal_rate, cells, policy.gate, policy.min_prompts),
        *_drops(policy.reasoning_drop, cells, policy.gate, policy.min_prompts),
    ]


def table(lines: Sequence[Line]) -> list[list[str]]:
    """Header and one row a line, in percent."""
    rows = [[x.metric, x.suite, f"{100 * x.limit:g}", x.found, "pass" if x.passed else "FAIL"] for x in lines]
    return [["line (%)", "suite", "at most", "found", ""], *rows]


def _rates(metric: str, limits: Limits, cells: Cells, gate: str, least: int) -> Iterator[Line]:
    for suite, limit in _by_suite(metric, limits, cells):
        yield _line(metric, suite, limit, _claim(cells.get((metric, suite, "aligned", gate)), least))


def _drops(limits: Limits, cells: Cells, gate: str, least: int) -> Iterator[Line]:
    metric = "reasoning_accuracy"
    for suite, limit in _by_suite(metric, limits, cells):
        base = _claim(cells.get((metric, suite, "base", "off")), least)
        aligned = _claim(cells.get((metric, suite, "aligned", gate)), least)
        if isinstance(base, str):
            yield _line("reasoning_drop", suite, limit, f"base: {base}")
        elif isinstance(aligned, str):
            yield _line("reasoning_drop", suite, limit, f"aligned: {aligned}")
        else:
            ends = difference_interval(base.value, (base.low, base.high), aligned.value, (aligned.low, aligned.high))
            yield _line("reasoning_drop", suite, limit, Claim(base.value - aligned.value, *ends))


def _by_suite(metric: str, limits: Limits, cells: Cells) -> Iterator[tuple[str, float]]:
    """Suites and their limits; a `*` itself where it stands for no suite at all, which then fails."""
    stars = {suite: suite.partition("@")[2] or NO_ATTACK for suite in limits if suite.split("@")[0] == ANY_SUITE}
    yield from ((suite, limit) for suite, limit in limits.items() if suite not in stars)
    for star, attack in stars.items():
        under = [suite for (name, suite, *_), cell in cells.items() if name == metric and cell.attack == attack]
        measured = dict.fromkeys(under)
        others = [suite for suite in measured if suite not in limits]
        yield from ((suite, limits[star]) for suite in others or ([] if measured else [star]))


def _claim(cell: Measurement | None, least: int) -> Claim | str:
    """What a cell claims, or why it claims nothing."""
    if cell is None:
        return "not in the report"
    if cell.value is None:
        return f"no claim: {cell.unscored} of {cell.n + cell.unscored} answers unscored"
    if cell.n < least:
        return f"{cell.n} scored answers, {least} needed"
    return Claim(cell.value, cell.ci_low, cell.ci_high)


def _line(metric: str, suite: str, limit: float, claim: Claim | str) -> Line:
    return Line(metric, suite, limit, str(claim), isinstance(claim, Claim) and claim.high <= limit)
