"""`presafe promote RUN`: deploys a run's model if the run's report meets a policy, else says which line failed."""

import time
from collections.abc import Sequence
from copy import deepcopy
from importlib.resources import files
from typing import Any, NamedTuple

import yaml
from ray.serve.schema import ServeDeploySchema

from presafe import storage
from presafe.config import EndpointSettings
from presafe.config.whole import read_yaml, validated
from presafe.decision.rule import GateMode
from presafe.engines.card import read_card
from presafe.errors import UserError, user_error
from presafe.evaluate.discrimination import Discrimination
from presafe.evaluate.measurements import Measurement
from presafe.evaluate.stage import EXPORTED
from presafe.evaluate.table import as_text
from presafe.reads import exported_weights
from presafe.stages import RunDirectory, content_hash
from serve.arguments import ServeArgs, serve_section
from serve.deployment.policy import judge, load_policy, table
from serve.deployment.rollout import Json, RolloutError, client, deploy, standing, wait_running, with_application

PACKAGED = files("serve").joinpath("config.yaml")
MODEL_VERSION = "PRESAFE_MODEL_VERSION"
"""Of the replicas' environment. Serve starts new replicas where arguments or environment changed, and a model that was
trained again lies at the same path."""

DEPLOYED, POLICY_FAILED, ROLLOUT_FAILED = 0, 1, 3
"""Exit codes. 2 is for what the user got wrong."""


def run_promote(
    run: str,
    overrides: Sequence[str],
    *,
    policy: str | None,
    config: str | None,
    address: str,
    dry_run: bool,
    timeout_s: float,
) -> int:
    """Judge the report of `run` and, if every line of the policy holds, deploy its model; the exit code.

    `config` is a Serve config file with one application, whose `args.model` and `args.gate` are filled in; `overrides`
    (`key=value`) change its other arguments. What stood on the cluster before is written into the working directory.
    Raises UserError where a file, the run or the address is wrong.
    """
    wanted, directory = load_policy(policy), RunDirectory(storage.absolute(run))
    report = read_report(directory)
    file = with_section(read_yaml(config or str(PACKAGED), "serve/config.yaml"), run, packaged=config is None)
    filled = fill(file, directory, wanted.gate, overrides)
    lines = judge(wanted, report.measurements, report.discrimination)
    print(as_text(table(lines)) + "\n")
    failed = [line for line in lines if not line.passed]
    if failed:
        told = "; ".join(line.failure for line in failed)
        print(f"not deployed: {len(failed)} of {len(lines)} lines of the policy failed: {told}")
        return POLICY_FAILED
    if dry_run:
        print(f"all {len(lines)} lines of the policy hold; --dry-run deploys nothing")
        return DEPLOYED
    return _roll_out(filled, address, timeout_s)


class Judged(NamedTuple):
    """What a policy judges of a report: of suites and of their categories, and the curves."""

    measurements: list[Measurement]
    discrimination: list[Discrimination]


def read_report(run: RunDirectory) -> Judged:
    """That of the run. Raises UserError where it is not of the model that lies in `model/`."""
    evaluated = run.manifest("evaluate")["parts"]["generate"]["reads"][EXPORTED]
    card, exported = read_card(run.folder("model")), exported_weights(run)
    report = storage.read_json(storage.join(run.folder("evaluate"), "report.json"))
    if evaluated != exported:
        raise _stale(run, f"weights {evaluated}", f"weights {exported}")
    if report.get("decision", "drawn") != "greedy":
        raise user_error(
            found=f"a report on decisions that were drawn, in {run.folder('evaluate')}",
            needed="greedy ones, which are those that are served",
            change="run `presafe evaluate` with evaluate.decision=greedy (--redo), then promote",
        )
    if report["threshold"] != card.threshold:  # trained again with the same config
        raise _stale(run, f"threshold {report['threshold']}", f"threshold {card.threshold}")
    rows = [*report["measurements"], *report.get("by_category", [])]  # which an earlier version's report lacks
    curves = report.get("discrimination", [])
    return Judged(
        [Measurement.model_validate(row) for row in rows], [Discrimination.model_validate(row) for row in curves]
    )


def with_section(config: Json, run: str, *, packaged: bool) -> Json:
    """The Serve config with what section `serve` of the run's config says: a file that the user gave counts more, the
    packaged one less."""
    section = validated(EndpointSettings, _endpoint(serve_section(run) or {}), ())
    values = section.model_dump(mode="json")
    said = section.model_dump(mode="json", exclude_defaults=True)
    applications = [
        {**one, "args": {**one.get("args", {}), **said} if packaged else {**values, **one.get("args", {})}}
        for one in config.get("applications", [])
    ]
    return {**config, "applications": applications}


def _endpoint(section: Json) -> Json:
    return {name: value for name, value in section.items() if name in EndpointSettings.model_fields}


def fill(config: Json, run: RunDirectory, gate: GateMode, overrides: Sequence[str]) -> Json:
    """The Serve config with the run's model, its version and the policy's gate in its one application."""
    try:
        ServeDeploySchema.model_validate(config)
        (application,) = config["applications"]
    except ValueError as error:
        raise user_error(
            found=f"a Serve config that cannot be used ({error})",
            needed="one application",
            change="see serve/config.yaml",
        ) from error
    args: dict[str, Any] = {**deepcopy(application.get("args", {})), "model": run.folder("model"), "gate": gate}
    settings = validated(ServeArgs, args, overrides)
    if (settings.model, settings.gate) != (run.folder("model"), gate):
        raise user_error(
            found="an override of model or gate",
            needed=f"the run's own model, with gate {gate}, which is what the policy judges",
            change="leave it out, or set the policy's gate",
        )
    judged = read_card(run.folder("model")).threshold
    if gate == "on" and (settings.threshold not in (None, judged) or settings.gate_action != "refusal"):
        raise user_error(
            found=f"gate_action {settings.gate_action} at threshold {settings.threshold}",
            needed=f"a gate that refuses at {judged:g}, which is what the policy judges",
            change="leave threshold and gate_action out",
        )
    environment = application.get("runtime_env", {})
    variables = {**environment.get("env_vars", {}), MODEL_VERSION: model_version(run)}
    promoted = {**application, "args": args, "runtime_env": {**environment, "env_vars": variables}}
    return {**config, "applications": [promoted]}


def model_version(run: RunDirectory) -> str:
    """Differs between two trainings, even of one config."""
    return content_hash([exported_weights(run), read_card(run.folder("model")).model_dump(mode="json")])


def _roll_out(filled: Json, address: str, timeout_s: float) -> int:
    (application,) = filled["applications"]
    cluster = client(address)
    details: Json = cluster.get_serve_details()
    body = with_application(details, filled)
    before = f"before-{application['name']}-{time.strftime('%Y%m%dT%H%M%S')}.yaml"
    storage.write_text(before, yaml.safe_dump(standing(details), sort_keys=False))
    print(f"deploying {application['name']}: {application['args']['model']} to {address}")
    try:
        deploy(cluster, body)
        wait_running(cluster, application["name"], timeout_s)
    except RolloutError as error:
        print(f"not running: {error}\n{_way_back(before, address)}")
        return ROLLOUT_FAILED
    print(f"{application['name']} runs at {application.get('route_prefix', '/')}\n{_way_back(before, address)}")
    return DEPLOYED


def _way_back(before: str, address: str) -> str:
    return f"to go back to what stood before: serve deploy --address {address} {storage.absolute(before)}"


def _stale(run: RunDirectory, judged: str, there: str) -> UserError:
    return user_error(
        found=f"a report of another model than the one in {run.folder('model')} ({judged}; there {there})",
        needed="a report of that model",
        change="run `presafe evaluate` again (--force), then promote",
    )
