"""What the parts of a run read, by the name under which their keys have it: the content of all that a config names."""

from collections.abc import Sequence

import pyarrow.compute as pc

from presafe import storage
from presafe.config import ClassifierSettings, Config, Judge, LlmSettings
from presafe.config.prompts import Origin
from presafe.content import Contents, hub_commit
from presafe.stages import RunDirectory, content_hash
from presafe.suites import suite_file

SUITES = "prompts of the suites"
VALIDATION = pc.field("split") == "validation"
NOT_THE_WEIGHTS = frozenset({"README.md", "presafe.json", "manifest.json", "merged", "merged-gate"})
"""In `model/`: what is made of the weights, or says something of them."""


def training_prompts(config: Config) -> dict[str, str]:
    return {"prompts for training": _contents(config).of_rows(file(config, "prompts", "prompts.parquet"))}


def suite_prompts(config: Config) -> dict[str, str]:
    return {SUITES: _contents(config).of_rows(suite_file(config.run_directory))}


def kept_clear_of(config: Config) -> dict[str, str]:
    """Of each suite that training prompts are kept clear of, its prompts."""
    file = suite_file(config.run_directory)
    return {
        f"kept clear of {name}": _contents(config).of_rows(file, pc.field("source") == name)
        for name in config.kept_clear_of
    }


def validation_prompts(config: Config) -> dict[str, str]:
    return {"validation prompts": _contents(config).of_rows(file(config, "prompts", "prompts.parquet"), VALIDATION)}


def rows(config: Config, stage: str, *names: str) -> dict[str, str]:
    """Rows of Parquet files or folders of a stage."""
    return {f"{stage}/{name}": _contents(config).of_rows(file(config, stage, name)) for name in names}


def files(config: Config, stage: str, *names: str) -> dict[str, str]:
    """Files, or all files in folders, of a stage."""
    return {f"{stage}/{name}": _contents(config).of_folder(file(config, stage, name)) for name in names}


def base_model(config: Config) -> dict[str, str]:
    """The model to align. One that a function builds is known by the function's name, options and seed."""
    model = config.model
    if model.path is not None:
        return named_model(config, "model", model.path)
    return {"model": content_hash([model.build, model.build_options, config.run.seed])}


def named_model(config: Config, name: str, model: str | None) -> dict[str, str]:
    """A model that a setting names, or none."""
    if model is None:
        return {}
    return {name: _contents(config).of_model(storage.absolute(model) if storage.exists(model) else model)}


def exported_weights(run: RunDirectory) -> str:
    """Of the model in `model/`: weights and head."""
    return Contents(run.memory).of_folder(run.folder("model"), NOT_THE_WEIGHTS)


def judges(config: Config, judges: Sequence[Judge], human_labels: str | None, title: str = "judge") -> dict[str, str]:
    """The models of judges, and the file of human decisions."""
    found: dict[str, str] = {}
    for judge in judges:
        if isinstance(judge, ClassifierSettings | LlmSettings):
            found |= named_model(config, f"{title} {judge.name}", judge.model)
    if human_labels is not None:
        found["human_labels"] = _contents(config).of_file(human_labels)
    return found


def origins(config: Config, kind: str, origins: Sequence[Origin]) -> dict[str, str]:
    """The rows of sources, suites or wrappers. A function's are known by its name, options and seed."""
    return {f"{kind} {origin.name}": _origin(config, origin) for origin in origins if origin.function is None}


def file(config: Config, stage: str, name: str) -> str:
    return storage.join(config.run_directory.folder(stage), name)


def _origin(config: Config, origin: Origin) -> str:
    if origin.path is not None:
        return _contents(config).of_file(origin.path)
    assert origin.dataset is not None
    if storage.exists(origin.dataset):
        return _contents(config).of_folder(storage.absolute(origin.dataset))
    return hub_commit(origin.dataset, origin.revision, "dataset")


def _contents(config: Config) -> Contents:
    return Contents(config.run_directory.memory)
