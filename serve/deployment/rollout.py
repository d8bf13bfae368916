"""One application put on a running cluster through Serve's REST API, beside what already stands there."""

import time
from collections import Counter
from typing import Any

from ray.dashboard.modules.serve.sdk import ServeSubmissionClient
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from presafe.errors import user_error

POLL_S = 1.0
FAILED = ("DEPLOY_FAILED", "UNHEALTHY")
CLUSTER_OPTIONS = ("proxy_location", "http_options", "grpc_options", "target_capacity")
"""What a PUT must repeat: it replaces all of the cluster's configuration."""

Json = dict[str, Any]


class RolloutError(Exception):
    """The cluster took the application and could not run it, or did not take it."""


def client(address: str) -> ServeSubmissionClient:
    """A client of the dashboard at http://HOST:PORT. Raises UserError where none answers."""
    try:
        return ServeSubmissionClient(address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise user_error(
            found=f"no Ray dashboard with Serve at {address} ({str(error).splitlines()[0]})",
            needed="the dashboard of the cluster to deploy to, http://HOST:8265",
            change="pass its --address, or forward its port (`ray dashboard cluster.yaml`)",
        ) from error


def standing(details: Json) -> Json:
    """The whole configuration that a PUT would have to send to change nothing.

    Applications of `serve.run` are not in it: a PUT neither changes nor drops them.
    """
    options = {name: details[name] for name in CLUSTER_OPTIONS if details.get(name) is not None}
    configs = [details["applications"][name]["deployed_app_config"] for name in sorted(details["applications"])]
    return {**options, "applications": [config for config in configs if config is not None]}


def with_application(details: Json, config: Json) -> Json:
    """What to PUT: `config`, with one application, beside everything that stands.

    Where Serve runs already, its proxies and their options stay, and the file's logging goes to its application alone.
    Raises UserError where an application of the same name was started in another way.
    """
    (application,) = config["applications"]
    there = details["applications"].get(application["name"])
    if there is not None and there["source"] != "declarative":
        raise user_error(
            found=f"an application {application['name']!r} that `serve.run` or `presafe serve` started",
            needed="a cluster without it, or another name: it could not be brought back",
            change="stop it, or rename the application in the Serve config file",
        )
    now = standing(details)
    others = [one for one in now["applications"] if one["name"] != application["name"]]
    if "http_options" not in now:
        return {**config, "applications": [*others, application]}
    if "logging_config" in config:
        application = {"logging_config": config["logging_config"], **application}
    return {**now, "applications": [*others, application]}


def deploy(cluster: ServeSubmissionClient, body: Json) -> None:
    """PUT the configuration. Raises RolloutError with Serve's message where it refuses it."""
    try:
        cluster.deploy_applications(body)
    except RuntimeError as error:
        raise RolloutError(f"Serve refused the configuration: {error}") from error


def wait_running(cluster: ServeSubmissionClient, name: str, timeout_s: float) -> None:
    """Print the application's status whenever it changes, until it is RUNNING.

    Raises RolloutError with the deployments' messages where it fails, or is not there after `timeout_s`.
    """
    begin, said = time.monotonic(), ""
    while True:
        time.sleep(POLL_S)  # before the first look too: the controller reconciles a few times a second
        application = _details(cluster)["applications"].get(name, {"status": "NOT_STARTED", "deployments": {}})
        seconds, status = time.monotonic() - begin, application["status"]
        if (line := f"{status:12} {_replicas(application)}".rstrip()) != said:
            print(f"{seconds:5.0f} s  {line}", flush=True)
            said = line
        if status == "RUNNING":
            return
        if status in FAILED:
            raise RolloutError(f"{name} is {status}: {_messages(application)}")
        if seconds > timeout_s:
            raise RolloutError(f"{name} is still {status} after {timeout_s:g} s, and goes on: {_messages(application)}")


def _details(cluster: ServeSubmissionClient) -> Json:
    """The controller may be busy or moving to another node for some seconds."""
    passing = retry_if_exception_type((RuntimeError, OSError))
    details: Json = Retrying(retry=passing, stop=stop_after_attempt(10), wait=wait_fixed(3), reraise=True)(
        cluster.get_serve_details
    )
    return details


def _replicas(application: Json) -> str:
    states = Counter(
        replica["state"] for deployment in application["deployments"].values() for replica in deployment["replicas"]
    )
    return ", ".join(f"{count} {state.lower()}" for state, count in sorted(states.items()))


def _messages(application: Json) -> str:
    own = application.get("message", "")
    of_deployments = [f"{name}: {one['message']}" for name, one in application["deployments"].items() if one["message"]]
    return "\n".join(message for message in (own, *of_deployments) if message) or "Serve gave no reason"
