"""Training metrics in TensorBoard, MLflow or Weights & Biases, beside metrics.jsonl.

A resumed run hands its history over again: a tracker then has every step once, also those that it had not stored yet
when the run was killed.
"""

import importlib.util
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

from presafe import storage
from presafe.errors import user_error

logger = logging.getLogger("presafe")

Kind = Literal["none", "tensorboard", "mlflow", "wandb"]
Row = Mapping[str, float]
"""Numbers of one step by name, with the step itself under `step`."""
Log = Callable[[Row], None]


def check_tracker(kind: Kind) -> None:
    """Raise UserError where this process cannot log to `kind`: no package, or no server to log to."""
    if kind != "none" and importlib.util.find_spec(kind) is None:
        raise user_error(
            found=f"run.tracker {kind}, but no package {kind}",
            needed="it on every node",
            change="install presafe[tracking], or set run.tracker=none: metrics.jsonl is always written",
        )
    if kind == "mlflow" and "MLFLOW_TRACKING_URI" not in os.environ:
        raise user_error(
            found="run.tracker mlflow, but no MLFLOW_TRACKING_URI",
            needed="the address of a tracking server, on every node",
            change="export it, or set run.tracker=none: metrics.jsonl is always written",
        )


@contextmanager
def tracker(kind: Kind, run_name: str, folder: str, history: Sequence[Row]) -> Iterator[Log]:
    """A function that logs a row, while the body runs; `history` are the rows of a resumed run's earlier steps.

    What a tracker keeps of its own lies in `folder`, local or remote. Raises UserError where it cannot start.
    """
    check_tracker(kind)
    with _TRACKERS[kind](run_name, folder) as log:
        for row in history:
            log(row)
        yield log


@contextmanager
def _none(run_name: str, folder: str) -> Iterator[Log]:  # noqa: ARG001
    yield lambda _: None


@contextmanager
def _tensorboard(run_name: str, folder: str) -> Iterator[Log]:  # noqa: ARG001
    """Event files in `folder`/tensorboard, written anew by each attempt."""
    from torch.utils.tensorboard import SummaryWriter

    url = storage.join(folder, "tensorboard")
    if storage.is_local(url):
        storage.remove(url)
    with _local(url) as place:
        writer = SummaryWriter(place, purge_step=0, flush_secs=10)  # a TensorBoard that is open forgets the old files
        try:
            yield lambda row: _add_scalars(writer, row)
        finally:
            writer.close()


def _add_scalars(writer: Any, row: Row) -> None:
    for name, value in _numbers(row).items():
        writer.add_scalar(name, value, int(row["step"]))


@contextmanager
def _wandb(run_name: str, folder: str) -> Iterator[Log]:
    """One run of the project WANDB_PROJECT, resumed under its id; offline, each attempt's folder holds all steps."""
    import wandb

    run_id, _ = _remembered(folder, "wandb", lambda: uuid.uuid4().hex[:12])
    with _local(storage.join(folder, "wandb")) as place:
        project = os.environ.get("WANDB_PROJECT", "presafe")
        try:
            os.makedirs(place, exist_ok=True)
            run = wandb.init(
                project=project, name=run_name, id=run_id, resume="allow", dir=place, settings={"console": "off"}
            )
        except wandb.errors.Error as error:
            raise user_error(
                found=f"Weights & Biases, which does not start ({error})",
                needed="WANDB_API_KEY on every node, or WANDB_MODE=offline",
                change="export one, or set run.tracker=none: metrics.jsonl is always written",
            ) from error
        first = run.step  # on the server already: the steps before it
        with run:
            yield lambda row: run.log(_numbers(row), step=int(row["step"])) if row["step"] >= first else None


@contextmanager
def _mlflow(run_name: str, folder: str) -> Iterator[Log]:
    """One run of the experiment that MLFLOW_EXPERIMENT_NAME names, resumed under its id."""
    import mlflow

    client = mlflow.MlflowClient()
    try:
        run_id, resumed = _remembered(folder, "mlflow", lambda: _create_run(client, run_name))
        last = max((m.step for m in client.get_metric_history(run_id, "loss")), default=0) if resumed else 0
        client.update_run(run_id, status="RUNNING")
    except mlflow.MlflowException as error:
        raise user_error(
            found=f"MLflow at {os.environ['MLFLOW_TRACKING_URI']}, which does not start a run ({error})",
            needed="a tracking server that answers",
            change="correct MLFLOW_TRACKING_URI, or set run.tracker=none: metrics.jsonl is always written",
        ) from error
    buffer = _MlflowBuffer(client, run_id, last)
    status = "FAILED"
    try:
        yield buffer
        status = "FINISHED"
    finally:
        buffer.flush(status)


def _create_run(client: Any, run_name: str) -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "presafe")
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
    return str(client.create_run(experiment_id, run_name=run_name).info.run_id)


class _MlflowBuffer:
    """Sends rows every `interval` seconds. What a server does not take is kept for the next time: training goes on.

    A client may try for minutes before it gives up, so that a failure is followed by ten times that in peace.
    """

    def __init__(self, client: Any, run_id: str, last: int, interval: float = 10.0) -> None:
        self._client, self._run_id, self._last, self._interval = client, run_id, last, interval
        self._rows: list[Row] = []
        self._next = time.monotonic() + interval

    def __call__(self, row: Row) -> None:
        if row["step"] > self._last:
            self._rows.append(row)
        if time.monotonic() >= self._next:
            self.flush()

    def flush(self, status: str | None = None) -> None:
        """Send what there is, and the run's `status` if it has ended."""
        from mlflow import MlflowException
        from mlflow.entities import Metric

        begin, now = time.monotonic(), int(1000 * time.time())
        self._next = begin + self._interval
        try:
            while self._rows:
                chunk = self._rows[:40]  # a request holds 1,000 metrics at most
                metrics = [
                    Metric(name, value, now, int(row["step"])) for row in chunk for name, value in _numbers(row).items()
                ]
                self._client.log_batch(self._run_id, metrics=metrics)
                del self._rows[: len(chunk)]
            if status:
                self._client.update_run(self._run_id, status=status)
        except MlflowException as error:
            logger.warning("MLflow did not take %d step(s), which metrics.jsonl has: %s", len(self._rows), error)
            self._next += 10 * (time.monotonic() - begin)


_TRACKERS: dict[Kind, Callable[[str, str], AbstractContextManager[Log]]] = {
    "none": _none,
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
}


def _numbers(row: Row) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "step"}


def _remembered(folder: str, kind: Kind, create: Callable[[], str]) -> tuple[str, bool]:
    """The id of the run in a tracker, and whether an earlier attempt has made it."""
    url = storage.join(folder, f"{kind}.json")
    if storage.exists(url):
        return str(storage.read_json(url)["run_id"]), True
    run_id = create()
    storage.write_json(url, {"run_id": run_id})
    return run_id, False


@contextmanager
def _local(url: str) -> Iterator[str]:
    """A local folder whose content is at `url` in the end."""
    if storage.is_local(url):
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="presafe-tracker-") as place:
        try:
            yield place
        finally:
            storage.remove(url)
            storage.upload(place, url)
