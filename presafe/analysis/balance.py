"""Safety, over-refusal and reasoning of each arm, on one picture: the paper's Fig. 1 and the front of its Fig. 2."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ARMS = {
    "base, CoT on": ("base", "on", "off"),
    "base, CoT off": ("base", "off", "off"),
    "aligned, CoT on": ("aligned", "on", "off"),
    "aligned, CoT on, gate": ("aligned", "on", "on"),
}
GOOD_WHEN_LOW = ("attack_success_rate", "over_refusal_rate")
METRICS = (*GOOD_WHEN_LOW, "reasoning_accuracy")


@dataclass(frozen=True)
class Balance:
    """An arm's means over its suites, shares from 0 to 1; None where it has no suite of a kind with a value."""

    arm: str
    attack_success_rate: float | None
    over_refusal_rate: float | None
    reasoning_accuracy: float | None


def balances(measurements: Sequence[Mapping[str, Any]]) -> Iterator[Balance]:
    """Of `report.json`'s measurements, prompts as their suites have them."""
    for arm in ARMS:
        of_arm = {metric: [*_of(measurements, arm, metric).values()] for metric in METRICS}
        if any(of_arm.values()):
            yield Balance(arm, **{name: sum(of) / len(of) if of else None for name, of in of_arm.items()})


def goodness(measurements: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each arm and suite, the share that is as one wishes: not complied, not refused, solved."""
    found = dict[str, dict[str, float]]()
    for arm in ARMS:
        for metric in METRICS:
            for suite, value in _of(measurements, arm, metric).items():
                found.setdefault(arm, {})[suite] = 1 - value if metric in GOOD_WHEN_LOW else value
    return found


def _of(measurements: Sequence[Mapping[str, Any]], arm: str, metric: str) -> dict[str, float]:
    """The value of each suite."""
    whole = (m for m in measurements if m["attack"] == "none" and m["k"] == 1 and m["category"] is None)
    wanted = (*ARMS[arm], metric)
    return {
        m["suite"]: m["value"]
        for m in whole
        if (m["model"], m["cot"], m["gate"], m["metric"]) == wanted and m["value"] is not None
    }
