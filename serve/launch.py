"""Starts the endpoint: the verb `presafe serve` checks its arguments, joins or starts Ray, and serves."""

import logging
import signal
import socket
import threading

from ray import serve
from ray.serve.schema import LoggingConfig

from presafe.config import Cluster, load_serve
from presafe.errors import user_error
from presafe.runtime import connect, demand, preflight
from serve.app import ServeArgs, build

APPLICATION = "presafe"
QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)


def serve_model(model: str, overrides: list[str]) -> None:
    """`presafe serve MODEL key=value ...`: join or start Ray and serve until interrupted.

    What the user gave is checked first, before a cluster is started for it.
    """
    settings = load_serve(overrides)
    _check_port(settings.host, settings.port)
    args = ServeArgs(model=model, **settings.model_dump(exclude={"host", "port"}))
    build(args.model_dump(mode="json"))
    connect(Cluster(), metrics=True)
    preflight(demand("serve", settings.workers))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a supervisor's stop is like Ctrl-C
    try:
        launch(args, settings.host, settings.port)
        threading.Event().wait()
    except KeyboardInterrupt:
        serve.shutdown()


def launch(args: ServeArgs, host: str, port: int) -> None:
    """Serve a model on http://HOST:PORT and print how to ask it.

    Raises UserError where the port is taken or the model is none, RuntimeError where a replica cannot start.
    """
    _check_port(host, port)
    application = build(args.model_dump(mode="json"))
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(http_options={"host": host, "port": port}, logging_config=QUIET)
    _run(application)
    print(_usage(f"http://{host}:{port}", args.served_name), flush=True)


def _run(application: serve.Application) -> None:
    """Deploy. Ray Serve's own error names the deployment that failed, but not why."""
    try:
        serve.run(application, name=APPLICATION, route_prefix="/", logging_config=QUIET)
    except RuntimeError as error:
        deployments = serve.status().applications[APPLICATION].deployments.values()
        serve.shutdown()
        raise RuntimeError("\n".join(deployment.message for deployment in deployments)) from error


def _check_port(host: str, port: int) -> None:
    """Bind and let go: Serve itself would fail late, in another process, and retry."""
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise user_error(
            found=f"the address {host}:{port}, which cannot be listened on ({error.strerror or error})",
            needed="a free one",
            change="set another serve.port, or stop what listens there",
        ) from error


def _usage(url: str, model: str) -> str:
    ask = f"curl {url}/v1/chat/completions -H 'Content-Type: application/json' -d"
    body = f'"model": "{model}", "messages": [{{"role": "user", "content": "How do magnets work?"}}]'
    return f"""serving {model} at {url}/v1
  {ask} '{{{body}}}'
  {ask} '{{{body}, "stream": true}}' --no-buffer
  a page to try it: {url}"""
