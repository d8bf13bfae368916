"""A study's file: which bases, alignment seeds and arms, and which of these are compared."""

import posixpath
from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from presafe.config.settings import Settings, on_or_off
from presafe.config.whole import read_yaml, validated
from presafe.decision.rule import GateMode
from presafe.records import CotMode

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
SHARED = "shared"
"""The run of a base whose prompts, teacher and signals all of its cells read."""


class Base(Settings):
    """A model to align, with the prompts and suites of its config."""

    name: str = Field(pattern=NAME)
    """Folder of its runs inside the study's."""
    config: str
    """The config of a run, beside the study's file or by path."""
    overrides: list[str] = []
    """Of the config, `section.key=value`: `run.seed=1` makes another base of one that a function builds."""


class Arm(Settings):
    """One kind of alignment, or another look at the answers of one."""

    name: str = Field(pattern=NAME)
    """Name in the report and of its runs."""
    align: dict[str, Any] | None = {}
    """Section `align` over that of the base's config, key by key; null is the base, which nobody aligned."""
    evaluate: dict[str, Any] = {}
    """Section `evaluate` over that of the base's config."""
    of: str | None = None
    """An arm whose runs this one looks at in another mode; it has none of its own."""
    cot: Annotated[CotMode, BeforeValidator(on_or_off)] = "on"
    """Chain-of-thought mode of the answers that count."""
    gate: Annotated[GateMode, BeforeValidator(on_or_off)] = "off"
    """Whether the head's gate decides, too."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if self.of is not None and self.model_fields_set & {"align", "evaluate"}:
            raise ValueError(f"arm {self.name} looks at the runs of {self.of}: leave out align and evaluate")
        if self.gate == "on" and self.cot == "off":
            raise ValueError(f"arm {self.name} has the gate on with chain-of-thought off: a gate decides with it on")
        return self


class Study(Settings):
    """Arms by alignment seeds by bases, and the differences that are claimed or denied of them."""

    name: str = Field(pattern=NAME)
    """Folder of the study inside `storage`."""
    storage: str = "runs"
    """Local folder, or s3:// or gs:// URL that every node can reach."""
    bases: list[Base] = Field(min_length=1)
    """What is aligned."""
    seeds: list[Annotated[int, Field(ge=0)]] = Field([0], min_length=1)
    """Seeds of the alignments (`align.seed`); base, prompts and suites keep those of the base's config."""
    arms: list[Arm] = Field(min_length=1)
    """What is done to each base with each seed; what nobody aligned is evaluated once a base."""
    compare: list[tuple[str, str]] = []
    """Pairs of an arm and its reference: differences with intervals and corrected tests. Either may be one of
    `evaluate.defences`, or the run's own `classifier`."""
    at_once: int = Field(1, ge=1)
    """Cells that run at once, each with the workers of its config."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [arm.name for arm in self.arms]
        for what, given in (("arms", names), ("bases", [b.name for b in self.bases]), ("seeds", self.seeds)):
            if doubled := sorted({str(one) for one in given if given.count(one) > 1}):  # type: ignore[arg-type]
                raise ValueError(f"two {what} of the same name, {', '.join(doubled)}; give each its own")
        own = [arm.name for arm in self.arms if arm.of is None]
        unaligned = [arm.name for arm in self.arms if arm.of is None and arm.align is None]
        aligned = {self.run_of(arm, seed) for arm in self.arms if arm.align is not None for seed in self.seeds}
        if taken := sorted({*unaligned} & {SHARED, *aligned}):
            raise ValueError(f"an arm called {taken[0]}, as another run of the study is; give it another name")
        if unknown := sorted({arm.of for arm in self.arms if arm.of is not None} - {*own}):
            raise ValueError(f"arms `of` {', '.join(unknown)}, which have no runs; name one of {', '.join(own)}")
        known = {*names, *self.scores}
        if unknown := sorted({one for pair in self.compare for one in pair} - known):
            raise ValueError(f"`compare` names {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        return self

    @property
    def scores(self) -> set[str]:
        """What else may be compared: defences that arms name, and the classifier, which every run has."""
        named = {str(d.get("name", d.get("kind"))) for arm in self.arms for d in arm.evaluate.get("defences", [])}
        return named | {"classifier"}

    def run_of(self, arm: Arm, seed: int) -> str:
        """The name of an arm's run."""
        return arm.name if arm.align is None else f"{arm.name}-{seed}"

    def runs_of(self, arm: Arm) -> Arm:
        """The arm whose runs it looks at: itself, or another."""
        return arm if arm.of is None else next(one for one in self.arms if one.name == arm.of)


def load_study(path: str, settings: Sequence[str] = ()) -> Study:
    """Read a study's file and apply `key=value`. Raises UserError with every wrong key and value named."""
    study = validated(Study, read_yaml(path, "configs/"), settings)
    folder = posixpath.dirname(path)
    bases = [base.model_copy(update={"config": posixpath.join(folder, base.config)}) for base in study.bases]
    return study.model_copy(update={"bases": bases})
