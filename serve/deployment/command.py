"""`presafe serve`: joins or starts Ray, serves, and ends as it was told to."""

import gc
import os
import sys
import time
import traceback

from ray._private import worker

from presafe import private_cluster
from presafe.cluster.demand import demand
from presafe.cluster.placing import wait_for_room
from presafe.config import Cluster, Serve
from presafe.errors import UserError
from presafe.runtime import connect
from serve.deployment.checks import log_folder
from serve.deployment.processes import adopt_orphans
from serve.deployment.stopping import LOOK_S, ClusterWatch, ExitSignals, give_up
from serve.operations.operator_log import OperatorLog


def serve_model(model: str, settings: Serve) -> None:
    """`presafe serve MODEL key=value ...`, with arguments that `checks` has seen: serve until a signal.

    Ends this process: with code 0 after a signal, 2 for what is wrong all the same, 1 where it could not start or its
    cluster is lost.
    """
    signals = ExitSignals()
    signals.install()
    adopt_orphans()
    watch = ClusterWatch(lambda text: print(text, file=sys.stderr))
    watch.start()
    exit_code = 1
    try:
        connect(Cluster(), metrics=True, meanwhile=_import_the_rest)
        signals.install()  # Ray has put its own in their place
        wait_for_room(demand("serve", settings.workers), Cluster().placement_minutes)
        _serve(model, settings, signals, watch)
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
        watch.stop()
        give_up(exit_code)
    raise SystemExit(exit_code)


def _import_the_rest() -> None:
    """The endpoint's code, which takes as long to import as a cluster to start."""
    gc.disable()  # a tenth of the time, for nothing that imports leave behind
    import serve.deployment.ray_serve  # noqa: I001 - before what imports Ray Serve with all it has
    import serve.deployment.draining
    import serve.deployment.launch  # noqa: F401

    gc.enable()


def _serve(model: str, settings: Serve, signals: ExitSignals, watch: ClusterWatch) -> None:
    from serve.arguments import ServeArgs
    from serve.deployment.draining import controller_pid, drain, shut_down
    from serve.deployment.launch import launch

    log = _operator_log(settings)
    watch.tell = log.tell

    def goes_on() -> bool:
        log.follow()
        return not signals.asked

    try:
        args = ServeArgs(model=model, **settings.model_dump(exclude={"host", "port", "log_folder"}))
        signals.serving = True  # a replica may answer before it is known here that it does
        alone = launch(args, settings.host, settings.port, goes_on)
        watch.watch_controller(controller_pid())
        told = f"told here and in {log.path}" if private_cluster.folder() else "in the logs of the cluster's nodes"
        log.tell(f"presafe: warnings and errors are {told}")
        while goes_on():
            time.sleep(LOOK_S)
        log.tell(f"presafe: stopping; new requests are refused, running ones have {settings.drain_s:g} s to end")
        if alone and not drain(settings.drain_s, log.follow):
            log.tell(f"presafe: requests that still run after {settings.drain_s:g} s are cut off")
        shut_down(watch, alone=alone)
        signals.ignore()
    finally:
        log.close()


def _operator_log(settings: Serve) -> OperatorLog:
    logs = os.path.join(worker._global_node.get_logs_dir_path(), "serve") if private_cluster.folder() else None
    return OperatorLog(os.path.join(log_folder(settings), f"serve-{settings.port}.log"), followed=logs)
