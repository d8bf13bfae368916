"""Trackers get every step once, whatever happens in between."""

import importlib.util
import os
import shutil

import pytest

from presafe import storage
from presafe.errors import UserError
from presafe.tracking import check_tracker, tracker


def rows(first: int, last: int) -> list[dict[str, float]]:
    return [
        {"step": step, "loss": 1 / step} | ({} if step % 2 else {"probe_auroc": 0.5}) for step in range(first, last)
    ]


def run_killed_at_7_and_resumed_from_4(kind: str, folder: str) -> None:
    """Ten steps; steps 5 and 6 happen twice."""

    def attempt(history: list, new: list, *, dies: bool) -> None:
        with tracker(kind, "run", folder, history) as log:
            for row in new:
                log(row)
            if dies:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt([], rows(1, 7), dies=True)
    attempt(rows(1, 5), rows(5, 11), dies=False)


def tensorboard_steps(folder: str) -> dict[str, list[int]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(folder)
    events.Reload()
    return {name: [event.step for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


@pytest.mark.parametrize("remote", [False, True])
def test_tensorboard_has_every_step_once_after_a_resume(tmp_path, remote):
    folder = "memory://tracked/align" if remote else str(tmp_path)
    run_killed_at_7_and_resumed_from_4("tensorboard", folder)
    events = storage.local_folder(f"{folder}/tensorboard")
    assert len(os.listdir(events)) == 1
    assert tensorboard_steps(events) == {"loss": list(range(1, 11)), "probe_auroc": [2, 4, 6, 8, 10]}


def test_mlflow_has_every_step_once_after_a_resume(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/server")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run_killed_at_7_and_resumed_from_4("mlflow", str(tmp_path))
    client, run_id = mlflow.MlflowClient(), storage.read_json(f"{tmp_path}/mlflow.json")["run_id"]
    for name, steps in {"loss": list(range(1, 11)), "probe_auroc": [2, 4, 6, 8, 10]}.items():
        assert sorted(metric.step for metric in client.get_metric_history(run_id, name)) == steps
    assert client.get_run(run_id).info.status == "FINISHED"


def test_a_server_that_is_lost_does_not_stop_the_training(tmp_path, monkeypatch, caplog):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/server")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    with tracker("mlflow", "run", str(tmp_path), []) as log:
        log(rows(1, 2)[0])
        for experiment in (tmp_path / "server").glob("[!.]*"):
            shutil.rmtree(experiment)
    assert "MLflow did not take 1 step(s)" in caplog.text


def test_a_tracker_whose_package_is_missing_is_refused():
    missing = [kind for kind in ("mlflow", "wandb") if importlib.util.find_spec(kind) is None]
    if not missing:
        pytest.skip("all trackers are installed")
    with pytest.raises(UserError, match=r"install presafe\[tracking\]"):
        check_tracker(missing[0])


def test_mlflow_without_a_server_is_refused(monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        check_tracker("mlflow")


def test_no_tracker_writes_nothing(tmp_path):
    run_killed_at_7_and_resumed_from_4("none", str(tmp_path))
    assert not list(tmp_path.iterdir())
