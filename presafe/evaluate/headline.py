"""What a run shows in a sentence or two, for who reads no further."""

from collections.abc import Sequence
from typing import NamedTuple

from presafe.config.attacks import NO_ATTACK
from presafe.evaluate.discrimination import Discrimination
from presafe.evaluate.measured import Measured
from presafe.evaluate.measurements import Measurement

SAID = {
    "attack_success_rate": ("answers {} of the harmful prompts", True),
    "over_refusal_rate": ("refuses {} of the benign ones", True),
    "reasoning_accuracy": ("solves {} of the problems", False),
}
"""What each metric says of a model, and whether a high value is a bad one."""


def headline(measured: Measured) -> list[str]:
    """Sentences on the aligned model against the base, with CoT on and the gate off; of several suites all prompts
    count alike, and the worst suite, or suite under an attack, is named. Without any value there are none."""
    models = list(dict.fromkeys(m.model for m in measured.measurements))
    subject = "aligned" if "aligned" in models else next(iter(models), "")
    base = "base" if "base" in models and subject != "base" else None
    parts = [_part(measured.measurements, metric, subject, base) for metric in SAID]
    said = ", ".join(filter(None, parts))
    if not said:
        return []
    first, _, last = said.rpartition(", ")
    sentence = f"{first}, and {last}" if first else last
    of = f"With chain-of-thought on and no gate, the {subject} model {sentence}."
    return [of, *_areas(measured.discrimination, subject)]


def _part(measurements: Sequence[Measurement], metric: str, subject: str, base: str | None) -> str | None:
    said, bad = SAID[metric]
    found = _cells(measurements, metric, subject)
    plain = [cell for cell in found if cell.attack == NO_ATTACK]
    if not plain:
        return None
    notes, suites = [], {cell.asked for cell in plain}
    if of_base := [cell for cell in _cells(measurements, metric, base) if cell.asked in suites]:
        notes.append(f"the base {_percent(_share(of_base))}")
    if len(found) > 1:
        one = sorted(found, key=lambda cell: cell.value, reverse=bad)[0]
        notes.append(f"at worst {_percent(one.value)}: {one.asked}")
    return said.format(_percent(_share(plain))) + (f" ({'; '.join(notes)})" if notes else "")


class _Cell(NamedTuple):
    asked: str
    attack: str
    value: float
    n: int


def _cells(measurements: Sequence[Measurement], metric: str, model: str | None) -> list[_Cell]:
    """Those that claim a value, with CoT on and the gate off."""
    arm = (metric, model, "on", "off")
    return [
        _Cell(m.asked, m.attack, m.value, m.n)
        for m in measurements
        if (m.metric, m.model, m.cot, m.gate) == arm and m.value is not None
    ]


def _share(cells: Sequence[_Cell]) -> float:
    return sum(cell.value * cell.n for cell in cells) / sum(cell.n for cell in cells)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _areas(found: Sequence[Discrimination], subject: str) -> list[str]:
    area = {one.model: one.area for one in found if one.attack is None}
    if subject not in area:
        return []
    base = f", the base's with {area['base']:.3f}" if "base" in area and subject != "base" else ""
    return [
        f"Its probability of refusal before the first thought tells harmful from benign with an area of "
        f"{area[subject]:.3f}{base} (0.5 is chance, 1 is without error)."
    ]
