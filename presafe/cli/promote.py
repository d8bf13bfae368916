"""`presafe promote`: a run's model, deployed if it is good enough."""

from collections.abc import Sequence
from importlib import import_module

import click

from presafe.cli import arguments


@click.command
@arguments.run
@arguments.settings
@click.option("--policy", metavar="FILE", help="what the report must show; by default serve/policy.yaml")
@click.option("--config", metavar="FILE", help="Serve config file; by default serve/config.yaml")
@click.option("--address", default="http://localhost:8265", show_default=True, help="dashboard of the cluster")
@click.option("--dry-run", is_flag=True, help="judge, and deploy nothing")
@click.option("--timeout", type=float, default=1800, metavar="SECONDS", help="how long to wait for RUNNING")
def promote(
    run: str,
    settings: Sequence[str],
    policy: str | None,
    config: str | None,
    address: str,
    timeout: float,
    *,
    dry_run: bool,
) -> None:
    """Deploy the model of RUN, a run directory that every node can reach, if its report meets a policy.

    The settings are arguments of the application.
    """
    code = import_module("serve.deployment.promote").run_promote(
        run, [*settings], policy=policy, config=config, address=address, dry_run=dry_run, timeout_s=timeout
    )
    raise SystemExit(code)
