"""Starts the endpoint: the verb `presafe serve` joins or starts Ray, serves, and ends as it was told to."""

import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable

import ray
from ray import serve
from ray.serve.schema import LoggingConfig

from presafe.config import Cluster, Serve
from presafe.errors import UserError
from presafe.runtime import connect, demand, preflight
from serve.app import ServeArgs, build
from serve.checks import check_address, log_folder
from serve.operator_log import OperatorLog
from serve.processes import adopt_orphans
from serve.stopping import LOOK_S, ClusterWatch, Signals, drain, give_up

APPLICATION = "presafe"
QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)


def serve_model(model: str, settings: Serve) -> None:
    """`presafe serve MODEL key=value ...`, with arguments that `serve.checks` has seen: serve until a signal.

    Ends this process: with code 0 after a signal, 2 for what is wrong all the same, 1 where it could not start or its
    cluster is lost.
    """
    args = ServeArgs(model=model, **settings.model_dump(exclude={"host", "port", "log_folder"}))
    build(args.model_dump(mode="json"))
    signals = Signals()
    signals.install()
    adopt_orphans()
    exit_code = 1
    try:
        connect(Cluster(), metrics=True)
        signals.install()  # Ray has put its own in their place
        preflight(demand("serve", settings.workers))
        log = _operator_log(settings)
        _serve(args, settings, signals, log)
        exit_code = 0
    except KeyboardInterrupt:
        exit_code = 0
        print("presafe: ended at once", file=sys.stderr)
    except (UserError, RuntimeError) as error:
        exit_code = 2 if isinstance(error, UserError) else 1
        print(f"presafe: {error}", file=sys.stderr)
    except Exception:  # noqa: BLE001 - told here: give_up ends this process before Python would
        traceback.print_exc()
    finally:
        give_up(exit_code)
    raise SystemExit(exit_code)


def _serve(args: ServeArgs, settings: Serve, signals: Signals, log: OperatorLog) -> None:
    watch = ClusterWatch(log.tell)
    watch.start()
    try:
        launch(args, settings.host, settings.port, meanwhile=log.follow)
        watch.watch_controller()
        log.tell(f"presafe: warnings and errors are told here and in {log.path}")
        signals.serving = True
        while not signals.asked:
            log.follow()
            time.sleep(LOOK_S)
        log.tell(f"presafe: stopping; new requests are refused, running ones have {settings.drain_s:g} s to end")
        if not drain(settings.drain_s, log.follow):
            log.tell(f"presafe: requests that still run after {settings.drain_s:g} s are cut off")
        watch.shut_down()
        signals.ignore()
    finally:
        watch.stop()
        log.close()


def launch(args: ServeArgs, host: str, port: int, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Serve a model on http://HOST:PORT and print how to ask it.

    Raises UserError where the port is taken, the model is none, or a replica says that a setting is wrong; RuntimeError
    where a replica cannot start. `meanwhile` is called again and again until it has.
    """
    check_address(host, port)
    application = build(args.model_dump(mode="json"))
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(http_options={"host": host, "port": port}, logging_config=QUIET)
    _run(application, meanwhile)
    print(_usage(f"http://{host}:{port}", args.served_name), flush=True)


def _run(application: serve.Application, meanwhile: Callable[[], None]) -> None:
    """Deploy. Serve's own waiting starts a replica that fails again and again, and then says that it did not why."""
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
        meanwhile()
        time.sleep(LOOK_S)


def _operator_log(settings: Serve) -> OperatorLog:
    logs = ray._private.worker._global_node.get_logs_dir_path()
    return OperatorLog(
        os.path.join(log_folder(settings), f"serve-{settings.port}.log"), followed=os.path.join(logs, "serve")
    )


def _usage(url: str, model: str) -> str:
    ask = f"curl {url}/v1/chat/completions -H 'Content-Type: application/json' -d"
    body = f'"model": "{model}", "messages": [{{"role": "user", "content": "How do magnets work?"}}]'
    return f"""serving {model} at {url}/v1
  {ask} '{{{body}}}'
  {ask} '{{{body}, "stream": true}}' --no-buffer
  a page to try it: {url}"""
