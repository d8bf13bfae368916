"""Whether p' of each arm tells harmful prompts from benign ones: areas, and attack success at the same over-refusal."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel

from presafe.evaluate.by_prompt import ByPrompt
from presafe.evaluate.compare.runs import kinds_of
from presafe.evaluate.discrimination import OVER_REFUSALS, Discrimination, Refusals, comparable
from presafe.evaluate.stage import arms_beside
from presafe.evaluate.study.looks import Key, Look, by_arm, by_prompt, common
from presafe.statistics.discrimination import Arms, areas, mean_arms, successes
from presafe.statistics.intervals import Estimate

AREA = "area"


def at_most(over_refusal: float) -> str:
    """The figure of attack success there."""
    return f"attack success at <= {100 * over_refusal:g} % over-refusal"


FIGURES = (AREA, *map(at_most, OVER_REFUSALS))


@dataclass(frozen=True)
class OfBase:
    """What p' says of a base's prompts, of which so many were read: arms of `found`, by figure, are its runs.

    `places` says which ones, by arm and then by base and seed.
    """

    found: Mapping[str, Arms]
    places: dict[str, dict[Key, int]]
    prompts: int


@dataclass(frozen=True)
class Apart:
    """The same of all bases; an arm that one of them lacks is in no mean over them."""

    bases: list[OfBase]

    @property
    def arms(self) -> list[str]:
        return [arm for arm in self.bases[0].places if all(arm in base.places for base in self.bases)]

    def runs(self, figure: str, arm: str) -> dict[Key, float]:
        """The figure of each run of an arm."""
        return {
            key: float(base.found[figure].values[place])
            for base in self.bases
            for key, place in base.places[arm].items()
        }

    def mean(self, figure: str, arm: str) -> Estimate:
        """Over bases and their runs, with its 95 % interval."""
        members = [[[*base.places[arm].values()]] for base in self.bases]
        return mean_arms([base.found[figure] for base in self.bases], members).estimate(0)

    def pair(self, figure: str, first: str, second: str) -> tuple[Arms | None, int]:
        """Means of two arms over the bases and seeds that both have, None without any; and prompts of these bases."""
        found, members, prompts = list[Arms](), list[list[list[int]]](), 0
        for base in self.bases:
            arms = base.places[first], base.places[second]
            if both := common(*arms):
                found.append(base.found[figure])
                members.append([[place for key, place in places.items() if key in both] for places in arms])
                prompts += base.prompts
        return (mean_arms(found, members) if found else None), prompts


class Telling(BaseModel):
    """An arm's, or a defence's, figure with the 95 % interval over prompts, and the lowest and highest of its runs."""

    arm: str
    figure: str
    value: float
    ci_low: float
    ci_high: float
    lowest: float
    highest: float
    runs: int


def tell_apart(found: Sequence[Look]) -> Apart | None:
    """Of all suites, on the prompts of a base of which all arms and defences have p'; None where a base has none."""
    plain = [look for look in found if (look.condition.cot, look.condition.gate) == ("on", "off")]
    bases = {look.cell.base: [one for one in plain if one.cell.base == look.cell.base] for look in plain}
    every = [one for own in bases.values() if (one := _of_base(own)) is not None]
    return Apart(every) if every and len(every) == len(bases) else None


def _of_base(found: Sequence[Look]) -> OfBase | None:
    names = [f"{look.arm}@{look.cell.seed}" for look in found]
    of_name = {name: (look.arm, look.key) for name, look in zip(names, found, strict=True)}
    read, kinds = by_prompt(found, names), kinds_of([look.run for look in found])
    for look in found:
        of_name |= _add_defences(read, look, of_name)
    rows = np.isin([kinds[cell.suite] for cell in read.cells], ("harmful", "benign"))[read.cell]
    columns = comparable(read, rows, [*of_name])
    for name in columns:
        rows &= np.isfinite(read.probability[name])
    harmful = np.array([kinds[cell.suite] == "harmful" for cell in read.cells])[read.cell[rows]]
    if not columns or harmful.all() or not harmful.any():
        return None
    probabilities, prompts = np.stack([read.probability[name][rows] for name in columns]), read.prompt[rows]
    figures = {AREA: areas(probabilities, harmful, prompts)}
    figures |= {at_most(share): successes(probabilities, harmful, prompts, share) for share in OVER_REFUSALS}
    places = dict[str, dict[Key, int]]()
    for place, name in enumerate(columns):
        arm, key = of_name[name]
        places.setdefault(arm, {})[key] = place
    return OfBase(figures, places, int(rows.sum()))


def _add_defences(read: ByPrompt, look: Look, known: Collection[str]) -> dict[str, tuple[str, Key]]:
    """Have `read` the defences that the look's run has beside the model, but those known already."""
    added = dict[str, tuple[str, Key]]()
    for arm in arms_beside(look.cell.config):
        name = f"{arm.name}@{look.cell.seed}"
        if name not in known:
            read.add(replace(arm, name=name), look.run.labels)
            added[name] = (arm.name, look.key)
    return added


def tellings(apart: Apart) -> Iterator[Telling]:
    """Arm by arm, defences behind them."""
    for arm in apart.arms:
        for figure in FIGURES:
            (value, low, high), runs = apart.mean(figure, arm), apart.runs(figure, arm).values()
            yield Telling(
                arm=arm,
                figure=figure,
                value=value,
                ci_low=low,
                ci_high=high,
                lowest=min(runs),
                highest=max(runs),
                runs=len(runs),
            )


def d_primes(found: Sequence[Look]) -> dict[str, list[float]]:
    """d' of what each arm refuses, a run each: of its answers, whatever p' says."""
    every = {arm: [_d_prime(look) for look in own] for arm, own in by_arm(found).items()}
    return {arm: [value for value in values if value is not None] for arm, values in every.items()}


def _d_prime(look: Look) -> float | None:
    mode = {("on", "off"): "answers", ("on", "on"): "gated", ("off", "off"): "without_cot"}
    of_all = (one for one in look.run.measured.discrimination if one.attack is None)
    own: Discrimination | None = next((one for one in of_all if one.model == look.condition.model), None)
    refusals: Refusals | None = getattr(own, mode[look.condition.cot, look.condition.gate], None)
    return None if refusals is None else refusals.d_prime


def apart_table(found: Sequence[Telling], refused: Mapping[str, Sequence[float]]) -> list[list[str]]:
    """A row an arm, with a header: figures with their intervals, the area's range, and d' of the answers."""
    arms = list(dict.fromkeys([*(one.arm for one in found), *(arm for arm, values in refused.items() if values)]))
    cells = {(one.arm, one.figure): one for one in found}
    header = ["arm", AREA, "runs from .. to", *(f"{figure} (%)" for figure in FIGURES[1:]), "d' of the answers"]
    rows = ([arm, *_row([cells.get((arm, figure)) for figure in FIGURES], refused.get(arm, ()))] for arm in arms)
    return [header, *rows]


def _row(own: Sequence[Telling | None], refused: Sequence[float]) -> list[str]:
    area, *others = own
    cells = ["-", "-"] if area is None else [_interval(area, 1, 3), f"{area.lowest:.3f} .. {area.highest:.3f}"]
    cells += ["-" if one is None else _interval(one, 100, 1) for one in others]
    mean = f"{np.mean(refused):.2f} [{min(refused):.2f}, {max(refused):.2f}]" if refused else "-"
    return [*cells, mean]


def _interval(one: Telling, scale: float, digits: int) -> str:
    value, low, high = (f"{scale * x:.{digits}f}" for x in (one.value, one.ci_low, one.ci_high))
    return f"{value} [{low}, {high}]"
