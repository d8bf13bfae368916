"""Whether p' of each arm tells harmful prompts from benign ones: areas, and attack success at the same over-refusal."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel

from presafe.evaluate.by_prompt import ByPrompt
from presafe.evaluate.compare.runs import kinds_of
from presafe.evaluate.discrimination import OVER_REFUSALS, Discrimination, Refusals, comparable
from presafe.evaluate.stage import arms_beside
from presafe.evaluate.study.looks import Look, by_arm, by_prompt
from presafe.statistics.discrimination import Arms, areas, mean_arms, successes

AREA = "area"


def at_most(over_refusal: float) -> str:
    """The figure of attack success there."""
    return f"attack success at <= {100 * over_refusal:g} % over-refusal"


FIGURES = (AREA, *map(at_most, OVER_REFUSALS))


@dataclass(frozen=True)
class Apart:
    """What p' of `arms` says, means over bases and their runs: `means` by figure; `runs` are the figures of each run,
    by figure, arm, base and seed. `prompts` were read by all."""

    arms: list[str]
    means: dict[str, Arms]
    runs: dict[tuple[str, str], dict[tuple[str, int | None], float]]
    prompts: int


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
    """Of all suites, on the prompts of a base of which all arms and defences have p'; None without such prompts.

    An arm without p' on one of the bases is in none of it.
    """
    plain = [look for look in found if (look.condition.cot, look.condition.gate) == ("on", "off")]
    bases = {look.cell.base: [one for one in plain if one.cell.base == look.cell.base] for look in plain}
    every = [one for own in bases.values() if (one := _of_base(own)) is not None]
    if not every or len(every) < len(bases):
        return None
    arms = [arm for arm in every[0].columns if all(arm in one.columns for one in every)]
    members = [[[place for place, _ in one.columns[arm]] for arm in arms] for one in every]
    means = {figure: mean_arms([one.found[figure] for one in every], members) for figure in FIGURES}
    runs = {
        (figure, arm): {
            (base, seed): float(one.found[figure].values[place])
            for base, one in zip(bases, every, strict=True)
            for place, seed in one.columns[arm]
        }
        for figure in FIGURES
        for arm in arms
    }
    return Apart(arms, means, runs, sum(one.prompts for one in every))


@dataclass(frozen=True)
class _OfBase:
    """Figures of the columns, and by arm its columns with their seeds."""

    found: Mapping[str, Arms]
    columns: dict[str, list[tuple[int, int | None]]]
    prompts: int


def _of_base(found: Sequence[Look]) -> _OfBase | None:
    names = [f"{look.arm}@{look.cell.seed}" for look in found]
    of_name = {name: (look.arm, look.cell.seed) for name, look in zip(names, found, strict=True)}
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
    places = dict[str, list[tuple[int, int | None]]]()
    for place, name in enumerate(columns):
        arm, seed = of_name[name]
        places.setdefault(arm, []).append((place, seed))
    return _OfBase(figures, places, int(rows.sum()))


def _add_defences(read: ByPrompt, look: Look, known: Collection[str]) -> dict[str, tuple[str, int | None]]:
    """Have `read` the defences that the look's run has beside the model, but those known already."""
    added = dict[str, tuple[str, int | None]]()
    for arm in arms_beside(look.cell.config):
        name = f"{arm.name}@{look.cell.seed}"
        if name not in known:
            read.add(replace(arm, name=name), look.run.labels)
            added[name] = (arm.name, look.cell.seed)
    return added


def tellings(apart: Apart) -> Iterator[Telling]:
    """Arm by arm, defences behind them."""
    for k, arm in enumerate(apart.arms):
        for figure, means in apart.means.items():
            value, low, high = means.estimate(k)
            runs = apart.runs[figure, arm].values()
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
