"""An application on the connected cluster: started, waited for, or told why it did not start."""

import logging
import re
import time
from collections.abc import Callable

import ray
from ray import serve
from ray.serve._private.api import _create_controller_and_proxy_refs
from ray.serve._private.constants import HTTP_PROXY_TIMEOUT
from ray.serve.config import ControllerOptions, HTTPOptions
from ray.serve.context import _get_global_client
from ray.serve.schema import LoggingConfig

from presafe.errors import UserError, user_error
from serve.app import build
from serve.arguments import ServeArgs
from serve.deployment.checks import check_address
from serve.deployment.stopping import LOOK_S

APPLICATION = "presafe"
QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)


def launch(args: ServeArgs, host: str, port: int, goes_on: Callable[[], bool] = lambda: True) -> bool:
    """Serve a model on http://HOST:PORT and print how to ask it; returns whether Serve is this endpoint's alone.

    On a cluster where Serve runs already, the endpoint comes behind its proxies, beside its other applications.

    Raises UserError where the port is taken or not that of the Serve that runs, the model is none, or a replica says
    that a setting is wrong; RuntimeError where a replica cannot start. `goes_on` is asked again and again while one
    starts: False ends the wait.
    """
    application = build(args.model_dump(mode="json"))
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    running = _get_global_client(raise_if_no_controller_running=False)
    proxies: list[ray.ObjectRef] = []
    if running is None:
        check_address(host, port)
        # serve.start would wait for the proxies before it lets a replica start (private API, hence the pin).
        http = HTTPOptions(host=host, port=port)
        _, proxies = _create_controller_and_proxy_refs(http, None, QUIET, None, ControllerOptions())
    else:
        _check_beside_others(port, running.http_config.port)
    if _run(application, goes_on, alone=running is None):
        ray.get(proxies, timeout=HTTP_PROXY_TIMEOUT)
        print(_usage(f"http://{host}:{port}", args.served_name), flush=True)
    return running is None


def withdraw(*, alone: bool) -> None:
    """End Serve, or the endpoint alone where Serve has other applications; waits until its requests have ended."""
    if alone:
        serve.shutdown()
    else:
        serve.delete(APPLICATION)


def _check_beside_others(port: int, serves_at: int) -> None:
    if port != serves_at:
        raise user_error(
            found=f"port={port}, and Ray Serve at port {serves_at} of this cluster already",
            needed="the port of that one, whose proxies are for all applications",
            change=f"set serve.port to {serves_at}, or use another cluster",
        )
    if APPLICATION in serve.status().applications:
        raise user_error(
            found=f"an application {APPLICATION!r} on this cluster already",
            needed="one endpoint a cluster",
            change="end that one first, or give it another model with `presafe promote`",
        )


def _run(application: serve.Application, goes_on: Callable[[], bool], *, alone: bool) -> bool:
    """Deploy, and say whether it runs.

    Serve's own waiting starts a replica that fails again and again, and then says that it did not why.
    """
    target = serve.RunTarget(application, name=APPLICATION, route_prefix="/", logging_config=QUIET)
    serve.run_many([target], wait_for_applications_running=False)
    while (status := serve.status().applications[APPLICATION]).status != "RUNNING":
        told = "\n".join(deployment.message for deployment in status.deployments.values())
        if wrong := re.findall(rf"{UserError.__module__}\.{UserError.__name__}: (.+)", told):
            withdraw(alone=alone)
            raise UserError(wrong[-1])
        if status.status == "DEPLOY_FAILED":
            withdraw(alone=alone)
            raise RuntimeError(told or status.message)
        if not goes_on():
            return False
        time.sleep(LOOK_S)
    return True


def _usage(url: str, model: str) -> str:
    ask = f"curl {url}/v1/chat/completions -H 'Content-Type: application/json' -d"
    body = f'"model": "{model}", "messages": [{{"role": "user", "content": "How do magnets work?"}}]'
    return f"""serving {model} at {url}/v1
  {ask} '{{{body}}}'
  {ask} '{{{body}, "stream": true}}' --no-buffer
  a page to try it: {url}"""
