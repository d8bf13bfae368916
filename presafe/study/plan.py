"""The cells of a study: which runs there are, what each is made of, and in which order they are made."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from presafe import storage
from presafe.config import Config, load_config
from presafe.errors import UserError, user_error
from presafe.study.settings import SHARED, Arm, Base, Study


@dataclass(frozen=True)
class Cell:
    """A run of an arm on a base with a seed, None where there is nothing to draw.

    `aligned` is whether anybody aligns it, `gathers` whether it has ready demonstrations of its own, which stage
    `prompts` has to gather for it.
    """

    base: str
    arm: str
    seed: int | None
    config: Config
    aligned: bool
    gathers: bool

    @property
    def name(self) -> str:
        return f"{self.base}/{self.config.run.name}"

    @property
    def stages(self) -> tuple[str, ...]:
        return (*(["prompts"] if self.gathers else []), "align", "evaluate")


@dataclass(frozen=True)
class Plan:
    """A study with the configs of all its runs; `shared` are those by base that its cells read."""

    study: Study
    root: str
    shared: dict[str, Config]
    cells: list[Cell]

    def of(self, arm: Arm) -> list[Cell]:
        """The cells that an arm looks at."""
        runs = self.study.runs_of(arm).name
        return [cell for cell in self.cells if cell.arm == runs]


def planned(study: Study) -> Plan:
    """The configs of all runs, seed after seed. Raises UserError where one of them does not load."""
    root = storage.join(study.storage, study.name)
    shared = {base.name: _config(study, base, None, None) for base in study.bases}
    cells = [
        cell for seed in study.seeds for base in study.bases for cell in _cells(study, base, seed, shared[base.name])
    ]
    return Plan(study, storage.absolute(root), shared, cells)


def _cells(study: Study, base: Base, seed: int, shared: Config) -> Iterator[Cell]:
    for arm in study.arms:
        if arm.of is not None or (arm.align is None and seed != study.seeds[0]):
            continue
        config = _config(study, base, arm, seed)
        gathers = config.align.demonstrations != shared.align.demonstrations
        yield Cell(base.name, arm.name, None if arm.align is None else seed, config, arm.align is not None, gathers)


def _config(study: Study, base: Base, arm: Arm | None, seed: int | None) -> Config:
    folder = storage.join(study.storage, study.name, base.name)
    changes: dict[str, Any] = {"run": {"name": SHARED, "storage": folder}}
    if arm is not None:
        assert seed is not None
        modes = {one.cot for one in study.arms if study.runs_of(one).name == arm.name}
        asked = {"models": ["base" if arm.align is None else "aligned"], "cot": sorted(modes, reverse=True)}
        changes["run"] |= {"name": study.run_of(arm, seed)}
        changes |= {"evaluate": asked | arm.evaluate}
        if arm.align is not None:
            changes |= {"align": {**arm.align, "seed": seed}}
    try:
        return load_config(base.config, base.overrides, changes)
    except UserError as error:
        cell = f"base {base.name}, arm {arm.name}" if arm else f"base {base.name}"
        raise user_error(
            found=f"no config of {cell} ({error})",
            needed="one that loads",
            change="correct the study's file, or the config that it names",
        ) from error
