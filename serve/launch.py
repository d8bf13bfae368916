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

from presafe.errors import UserError
from serve.app import ServeArgs, build
from serve.checks import check_address
from serve.stopping import LOOK_S

APPLICATION = "presafe"
QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)


def launch(args: ServeArgs, host: str, port: int, goes_on: Callable[[], bool] = lambda: True) -> None:
    """Serve a model on http://HOST:PORT and print how to ask it.

    Raises UserError where the port is taken, the model is none, or a replica says that a setting is wrong; RuntimeError
    where a replica cannot start. `goes_on` is asked again and again while one starts: False ends the wait.
    """
    check_address(host, port)
    application = build(args.model_dump(mode="json"))
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    proxies = _start_serve(HTTPOptions(host=host, port=port))
    if not _run(application, goes_on):
        return
    ray.get(proxies, timeout=HTTP_PROXY_TIMEOUT)
    print(_usage(f"http://{host}:{port}", args.served_name), flush=True)


def _start_serve(http: HTTPOptions) -> list[ray.ObjectRef]:
    """Start Serve where it does not run yet; returns what its proxies are waited for by.

    serve.start would wait for them before it lets a replica start (private API, hence the pin).
    """
    if _get_global_client(raise_if_no_controller_running=False) is not None:
        serve.start(http_options=http, logging_config=QUIET)  # it says which options come too late
        return []
    _, proxies = _create_controller_and_proxy_refs(http, None, QUIET, None, ControllerOptions())
    return proxies  # type: ignore[no-any-return]


def _run(application: serve.Application, goes_on: Callable[[], bool]) -> bool:
    """Deploy, and say whether it runs.

    Serve's own waiting starts a replica that fails again and again, and then says that it did not why.
    """
    target = serve.RunTarget(application, name=APPLICATION, route_prefix="/", logging_config=QUIET)
    serve.run_many([target], wait_for_applications_running=False)
    while (status := serve.status().applications[APPLICATION]).status != "RUNNING":
        told = "\n".join(deployment.message for deployment in status.deployments.values())
        if wrong := re.findall(rf"{UserError.__module__}\.{UserError.__name__}: (.+)", told):
            serve.shutdown()
            raise UserError(wrong[-1])
        if status.status == "DEPLOY_FAILED":
            serve.shutdown()
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
