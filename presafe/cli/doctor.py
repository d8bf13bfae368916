"""`presafe doctor`: what is wrong with a machine or a cluster, before a run finds it."""

from collections.abc import Sequence
from importlib import import_module

import click

from presafe.cli import arguments
from presafe.config import Cluster, load_config


@click.command
@click.option("--config", metavar="FILE", help="look at the storage of its run, from every node, and at its cluster")
@click.option("--address", metavar="ADDRESS", help="cluster to look at: auto, or HOST:PORT")
@arguments.overrides
def doctor(config: str | None, address: str | None, overrides: Sequence[str]) -> None:
    """Look at this machine, or every node of a cluster: versions, GPUs, all-reduce, disks, limits, clocks, storage.

    Each line is ok, or says what to do. Exits with code 1 where one is not ok.
    """
    settings = load_config(config, [*overrides]) if config else None
    cluster = (settings.cluster if settings else Cluster()).model_copy(update={"address": address} if address else {})
    store = settings.run_directory.root.rpartition("/")[0] if settings else None
    well = True
    for finding in import_module("presafe.cluster.doctor.examine").examine(cluster, store):
        print(finding, flush=True)
        well = well and finding.change is None
    raise SystemExit(0 if well else 1)
