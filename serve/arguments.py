"""What the application is told."""

from typing import Any

from presafe import storage
from presafe.config import EndpointSettings
from presafe.standing import CONFIG as RUN_CONFIG
from presafe.standing import DIRECTORY


class ServeArgs(EndpointSettings):
    """Arguments of the application."""

    model: str
    """Exported model: the model/ folder of a run, by path or URL that every node can reach."""


def serve_section(run: str) -> dict[str, Any] | None:
    """Section `serve` of the config that a run directory was last worked on with; None where `run` is none."""
    path = storage.join(storage.absolute(run).rstrip("/"), RUN_CONFIG)
    values = storage.read_json(path) if storage.exists(path) else {}
    return dict(values["serve"]) if DIRECTORY in values else None  # a model's folder may have a file of that name


def model_of(run: str) -> str:
    """The exported model of a run directory."""
    return storage.join(run.rstrip("/"), "model")


def application_args(args: dict[str, Any]) -> ServeArgs:
    """The arguments as they were given. `run`, in place of `model`, names a run directory: its model, and its section
    `serve` where they say nothing.

    Raises ValueError, with each wrong one named, and for a run that is none.
    """
    if (run := args.get("run")) is None:
        return ServeArgs.model_validate(args)
    if (section := serve_section(run)) is None:
        raise ValueError(f"found no run directory at run={run}; needed STORAGE/NAME; correct it, or name a `model`")
    known = {name: value for name, value in section.items() if name in EndpointSettings.model_fields}
    given = {name: value for name, value in args.items() if name != "run"}
    return ServeArgs.model_validate({"model": model_of(run)} | known | given)
