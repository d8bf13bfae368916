"""Stages by name, one or all of them, in this process's cluster."""

from collections.abc import Callable, Collection
from importlib import import_module

import yaml

from presafe.config import STAGES, Config

StageFunction = Callable[..., None]


def checked(config: Config) -> Config:
    """The config, whose storage is one that every node can reach. Raises UserError where it is not."""
    import_module("presafe.runtime").check_storage(config)
    return config


def run_one(config: Config, stage: str, *, redo: Collection[str] = (), force: bool = False) -> None:
    """Run one stage, whose parts of the names `redo` may be made anew, and print where its result is."""
    function: StageFunction = getattr(import_module(f"presafe.{stage}"), f"run_{stage}")
    with import_module("presafe.writer").sole_writer(config.run_directory.root):
        import_module("presafe.standing").keep(config)
        function(config, redo=redo, force=force)
    print(f"{stage}: {config.run_directory.folder(stage)}")


def every_part(config: Config, stage: str) -> list[str]:
    """The names of a stage's parts."""
    return [part.name for part in import_module(f"presafe.{stage}.stage").parts(config)]


def run_pipeline(config: Config, *, redo: bool, force: bool) -> None:
    """Run every stage in this process's cluster, then print the result.

    What would be made anew is told first. The encoder of stage `signals`, by default one of a hub, is looked at before
    the teacher spends hours.
    """
    if not force:
        import_module("presafe.standing").check_stale(config, redo=redo)
    if force or not config.run_directory.finished("signals"):
        import_module("presafe.signals.classifier").check_named_encoder(config.signals)
    with import_module("presafe.writer").sole_writer(config.run_directory.root):
        for stage in STAGES:
            run_one(config, stage, redo=every_part(config, stage) if redo else (), force=force)
    import_module("presafe.evaluate.summary").print_summary(config)


def describe(config: Config) -> str:
    """The resolved config as YAML, and what each stage will ask of the cluster."""
    lines = [yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), "# what the run asks of the cluster"]
    for demand in import_module("presafe.cluster.demand").demands(config):
        placement, total = demand.placement, demand.total
        lines.append(
            f"# {demand.stage:9} {demand.num_workers} worker(s) of {placement.num_cpus:g} CPU and "
            f"{placement.num_gpus:g} GPU: {total['CPU']:g} CPU and {total['GPU']:g} GPU at once"
        )
    return "\n".join(lines)
