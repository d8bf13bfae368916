"""The whole configuration, and how it is read: a YAML file plus dotted overrides (`align.lora.r=16`).

A file that begins with `base: FILE`, beside it or by path, says only what differs from that one: sections are merged
key by key; every other value, lists too, and a section of another `kind`, is replaced. A base has none of its own.
"""

import posixpath
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Self, TypeVar, get_args

import yaml
from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from presafe import storage
from presafe.config.adaptive import Adaptive
from presafe.config.align import Align, Gate
from presafe.config.analysis import Analysis
from presafe.config.attacks import check_apart
from presafe.config.evaluate import Evaluate
from presafe.config.prompts import Prompts, check_unique
from presafe.config.run import Cluster, Model, Run
from presafe.config.serve import Serve
from presafe.config.settings import HowItRuns, Settings
from presafe.config.signals import Signals
from presafe.config.suites import Suite
from presafe.config.teacher import Teacher
from presafe.errors import UserError, user_error
from presafe.records import Kind
from presafe.stages import RunDirectory

Section = TypeVar("Section", bound=Settings)

STAGES = ("prompts", "teacher", "signals", "align", "evaluate")


class Config(Settings):
    """Everything a run is made of."""

    run: Run
    cluster: HowItRuns[Cluster] = Cluster()
    model: Model
    suites: list[Suite] = Field(min_length=1)
    """Evaluation suites."""
    prompts: Prompts
    teacher: Teacher = Teacher()
    signals: Signals = Signals()
    align: Align = Align()
    gate: Gate = Gate()
    evaluate: Evaluate = Evaluate()
    attack: HowItRuns[Adaptive] = Adaptive()
    analysis: HowItRuns[Analysis] = Analysis()
    serve: HowItRuns[Serve] = Serve()

    @model_validator(mode="before")
    @classmethod
    def _suites_outside_prompts(cls, values: Any) -> Any:
        prompts = values.get("prompts") if isinstance(values, dict) else None
        if isinstance(prompts, dict) and "suites" in prompts:
            raise user_error(
                found="`suites` in section `prompts`",
                needed="a section of their own",
                change="move the list out of `prompts`, to the top level of the config",
            )
        return values

    @model_validator(mode="after")
    def _known_suites(self) -> Self:
        check_unique("suites", self.suites)
        names = [suite.name for suite in self.suites]
        if unknown := sorted({*(self.prompts.keep_clear_of or [])} - {*names}):
            raise user_error(
                found=f"prompts.keep_clear_of of {', '.join(unknown)}",
                needed=f"names of suites ({', '.join(names)})",
                change="correct it, or add the suite",
            )
        if unknown := sorted({*self.evaluate.samples} - {*names, *get_args(Kind)}):
            raise user_error(
                found=f"evaluate.samples of {', '.join(unknown)}",
                needed=f"names of suites ({', '.join(names)}) or kinds ({', '.join(get_args(Kind))})",
                change="correct it, or add the suite",
            )
        return self

    @model_validator(mode="after")
    def _exact_training(self) -> Self:
        if self.align.zero_stage == 0 and self.model.dtype == "bfloat16" and self.align.lora is None:
            raise ValueError("align.zero_stage 0 keeps no float32 copy of bfloat16 weights: set it to 1 or more")
        return self

    @model_validator(mode="after")
    def _sources_apart(self) -> Self:
        names = {source.name for source in self.prompts.sources}
        if doubled := names.intersection(source.name for source in self.align.demonstrations):
            raise ValueError(f"align.demonstrations and prompts.sources both have {sorted(doubled)}: rename one")
        return self

    @model_validator(mode="after")
    def _forms_apart(self) -> Self:
        check_apart(self.align.forms, self.evaluate.attacks)
        return self

    @property
    def run_directory(self) -> RunDirectory:
        return RunDirectory(storage.join(storage.absolute(self.run.storage), self.run.name))

    @property
    def align_seed(self) -> int:
        """Seed of what the alignment draws."""
        return self.run.seed if self.align.seed is None else self.align.seed

    @property
    def kept_clear_of(self) -> list[str]:
        """Names of the suites that training prompts are kept clear of, sorted."""
        named = self.prompts.keep_clear_of
        return sorted({*named} if named is not None else {suite.name for suite in self.suites})


def load_config(path: str, overrides: list[str], changes: dict[str, Any] | None = None) -> Config:
    """Read a YAML file and apply dotted overrides, then `changes`, sections that are merged key by key.

    Raises UserError with every wrong key and value named.
    """
    values = read_yaml(path, "configs/")
    if (base := values.pop("base", None)) is not None:
        values = _merged(read_yaml(posixpath.join(posixpath.dirname(path), str(base)), "configs/"), values)
    for override in overrides:
        _apply(values, override)
    return validated(Config, _merged(values, changes or {}), [])


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, key by key in sections; what is of another `kind` is replaced as a whole."""
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and _alike(below, value):
            merged[key] = _merged(below, value)
        else:
            merged[key] = value
    return merged


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether no two kinds of a section are named."""
    return len({section["kind"] for section in (one, other) if "kind" in section}) < 2


def read_yaml(path: str, examples: str) -> dict[str, Any]:
    """A YAML file of sections, as plain values. Raises UserError, which names `examples`, where it is none."""
    change = f"see {examples} for examples"
    if not storage.exists(path):
        raise user_error(found=f"no file {path}", needed="a config", change=change)
    try:
        values = yaml.safe_load(storage.read_text(path))
    except yaml.YAMLError as error:
        raise user_error(found=f"{path}, which is not YAML ({error})", needed="a config", change="mend it") from error
    if not isinstance(values, dict):
        raise user_error(found=f"{path} without sections", needed="a config", change=change)
    return values


def load_serve(overrides: list[str], section: dict[str, Any] | None = None) -> Serve:
    """The section `serve` alone, from its defaults or a run's, and overrides without a prefix (`port=8001`)."""
    return validated(Serve, section or {}, overrides)


def validated(kind: type[Section], values: dict[str, Any], overrides: Sequence[str]) -> Section:
    """A section of `values`, changed in place by dotted overrides. Raises UserError with every wrong key named."""
    for override in overrides:
        _apply(values, override)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = [_problem(kind, details) for details in error.errors()]
        raise UserError("; ".join(lines) + "; correct the config or the override") from error


def _problem(kind: type[Settings], error: ErrorDetails) -> str:
    """One of pydantic's errors in a line: where, what, and for an unknown key the one that it is near to."""
    name = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        near = get_close_matches(str(error["loc"][-1]), _keys(kind, error["loc"][:-1]), n=1)
        return f"{name}: unknown key" + (f", did you mean {near[0]}?" if near else "")
    message = error["msg"].removeprefix("Value error, ")
    return f"{name}: {message} (found {error['input']!r})" if name else message


def _keys(kind: type[Settings], location: Sequence[int | str]) -> list[str]:
    """Keys of the section that is at `location` in `kind`; of a union, those of all its members."""
    sections = [kind]
    for part in location:
        fields = [section.model_fields[str(part)].annotation for section in sections if part in section.model_fields]
        sections = [found for annotation in fields for found in sections_of(annotation)] or sections
    return [key for section in sections for key in section.model_fields]


def sections_of(annotation: Any) -> list[type[Settings]]:
    """The sections that an annotation names, itself or inside a union, a list or an Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [found for inner in get_args(annotation) for found in sections_of(inner)]


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise user_error(found=f"override {override!r}", needed="section.key=value", change="add the `=value`")
    *parents, leaf = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise user_error(found=f"{parent!r} in {key!r}, a value", needed="a section", change="shorten the key")
    try:
        values[leaf] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise user_error(
            found=f"override {override!r}, which is not YAML ({error})", needed="a value", change="quote it"
        ) from error
