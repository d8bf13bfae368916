"""The one place that talks to Ray as a whole: joining a cluster, its capacity, its environment; and imports by name."""

import importlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._private.ray_logging import stdout_deduplicator
from ray.exceptions import AuthenticationError, RayError, UserCodeException

from presafe import private_cluster, storage
from presafe.config import Cluster, Config
from presafe.engines.card import BUILT
from presafe.errors import UserError, user_error

TRAIN_ENV = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a checkpoint is committed at the controller's next look
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
    # How long a group waits for its nodes before the controller looks again which there are. At 60 s, a lost node that
    # an elastic group still counts on costs a minute.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",
}
"""Of Ray Train: the driver's go on to the controller and the workers. What the user exported wins."""

SERVE_ENV = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve.proxy:middlewares"}
"""Of Ray Serve's proxies, on every node that has one.

RAY_SERVE_PROXY_USE_GRPC=1 would save 0.5 ms of CPU a streamed token, but with it one stream of a fuzz lost its end (Ray
2.60).
"""

LOCAL_ENV = {
    **TRAIN_ENV,
    **SERVE_ENV,
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_num_workers_soft_limit": "16",  # of idle ones that stay: one a CPU is started anew again and again
    "RAY_prestart_worker_first_driver": "0",  # it starts a process a CPU, of which a stage uses few
    "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "0.5",  # no balancer in front has to learn of it
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",  # at 5 s busy cores restart the proxy over and over
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anyone; Ray Data alone starts an actor to collect it
}
"""Of a private local cluster: its processes inherit them from the driver. What the user exported wins."""

FULL_DISK = "No space left on device|OutOfDiskError"
"""How Python, Arrow and Ray tell of it."""

ENDPOINT_ENV = {"RAY_preload_python_modules": "serve.deployment.ray_serve"}
"""Of a private cluster that serves."""

WORKER_ENV = {
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_TRAIN_V2_ENABLED": "1",
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "5",  # of a group whose rank hangs; it is killed anyway
}
"""Set in every actor and worker."""

SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets it in the driver of a submitted job."""

LOOPBACK_ENV = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
"""In a private cluster also: gloo and NCCL listen on the machine's own address by default."""


def connect(cluster: Cluster, *, metrics: bool = False, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Join the configured cluster, or start a private local one that ends with this process.

    A private one passes metrics on only where `metrics` asks for it. `meanwhile` is called once, while that one starts.
    Workers' output stays in Ray's own logs: a stage shows its progress, and a failure comes back as an exception.
    """
    for name, value in TRAIN_ENV.items():
        os.environ.setdefault(name, value)
    if ray.is_initialized():
        meanwhile()
        return
    for library in ("ray.data", "ray.train"):
        logging.getLogger(library).setLevel(logging.WARNING)
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    variables = {name: _value(name, value) for name, value in cluster.variables.items()}
    if address and address != "local":
        meanwhile()
        _join(address, variables)
        return
    for name, value in (LOCAL_ENV | (ENDPOINT_ENV if metrics else {})).items():
        os.environ.setdefault(name, value)
    # By inheritance: a runtime environment would have each worker wait for Ray's agent, which takes seconds to start.
    os.environ |= WORKER_ENV | LOOPBACK_ENV | variables
    stdout_deduplicator.skip_re = re.compile("PYTHON worker processes have been started")  # more than cores: intended
    private_cluster.start(
        num_cpus=cluster.local_cpus,
        object_store_memory=int(cluster.object_store_gb * 1e9),
        metrics=metrics,
        meanwhile=meanwhile,
    )


def _value(name: str, value: str | None) -> str:
    if value is None and name not in os.environ:
        raise user_error(
            found=f"cluster.variables.{name}=null and no {name} in the driver's environment",
            needed="a value to pass on",
            change=f"export {name} where the driver runs, or leave it out",
        )
    return os.environ[name] if value is None else value


def _join(address: str, variables: dict[str, str]) -> None:
    runtime_env: dict[str, Any] = {"env_vars": WORKER_ENV | variables}
    if SUBMITTED not in os.environ:  # a submitted job brings its working directory along
        runtime_env |= {"py_modules": [os.path.dirname(os.path.abspath(__file__))], "excludes": ["__pycache__"]}
    try:
        ray.init(address=address, runtime_env=runtime_env, logging_level=logging.WARNING, log_to_driver=False)
    except (ConnectionError, AuthenticationError) as error:  # a cluster does not say which
        raise user_error(
            found=f"no Ray cluster at {address!r} that lets this process in",
            needed="a running one, and its token where it asks for one",
            change="start it; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to a file with its token; or unset "
            "cluster.address and RAY_ADDRESS for a private local cluster",
        ) from error


def check_storage(config: Config, *, submitted: bool = False) -> None:
    """Raise UserError where a job, `submitted` or this process as one, would write into Ray's temporary folder."""
    url = config.run.storage
    if (submitted or SUBMITTED in os.environ) and storage.is_local(url) and not os.path.isabs(url):
        raise user_error(
            found=f"run.storage={url!r} in a submitted Ray job, whose working directory is a temporary copy",
            needed="an absolute path on a disk that all nodes share, or a URL",
            change="pass run.storage=s3://BUCKET/runs, say",
        )


@contextmanager
def user_errors(*wrappers: type[Exception]) -> Iterator[None]:
    """Raise an actor's or worker's UserError as it was: Ray wraps it, or has only its text where it died of it.

    And one where a node's disk is full. `wrappers` are exceptions of a library above Ray's core that wrap them, too.
    """
    try:
        yield
    except (RayError, UserCodeException, *wrappers) as error:
        text = f"{error}\n{error.__cause__}"
        if told := re.findall(rf"{UserError.__module__}\.\w+: (.+)", text):
            raise UserError(told[-1]) from error
        if told := re.findall(rf"^.*(?:{FULL_DISK}).*$", text, flags=re.MULTILINE):
            raise user_error(
                found=f"a full disk on a node of the cluster ({told[-1].strip()})",
                needed="room for what the stage writes, and for Ray's own files",
                change="make room there and run the same command again: it goes on from where it was",
            ) from error
        raise


def model_folder(config: Config) -> str:
    """Folder, URL or hub name of the model to align, good on every node; builds the model where the config says so."""
    if config.model.build is not None:
        return built(config, config.model.build, config.model.build_options)
    assert config.model.path is not None
    return resolved(config.model.path)


def built(config: Config, function: str, options: dict[str, Any]) -> str:
    """The folder that `function` (`module:function`) builds, or finds, in the run's model cache."""
    cache = storage.join(storage.absolute(config.run.storage), BUILT)
    return str(imported(function)(cache, config.run.seed, **options))


def resolved(path: str) -> str:
    """A model's folder, URL or hub name, good on every node. Raises UserError where it is none of these."""
    if storage.exists(path):
        return storage.absolute(path)
    if path.count("/") == 1 and not path.startswith((".", "/", "~")):
        return path  # a hub name
    raise user_error(
        found=f"no model folder {path}",
        needed="a Hugging Face model folder, URL or hub name (organisation/name)",
        change="correct the model's path",
    )


def imported(name: str) -> Callable[..., Any]:
    """The function that a config names as `module:function`."""
    module, _, function = name.partition(":")
    try:
        target = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise user_error(
            found=f"{name!r} ({error})", needed="an importable module:function", change="correct the name"
        ) from error
    assert callable(target)
    return target  # type: ignore[no-any-return]
