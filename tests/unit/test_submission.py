"""What is told of jobs: whole lines of their logs, each once, how they stand, and how they ended."""

import pytest
from ray.job_submission import JobDetails

from presafe.submission.follow import Lines
from presafe.submission.jobs import ended
from presafe.submission.standing import standing_of


def test_a_log_that_comes_again_from_its_beginning_is_shown_once_in_whole_lines():
    shown: list[str] = []
    lines = Lines(shown.append)
    lines.add("one\nt")
    assert shown == ["one"]
    lines.begin_again()
    for piece in ("on", "e\ntwo", "\nthr"):
        lines.add(piece)
    assert shown == ["one", "two"]
    lines.add("ee")
    lines.end()
    assert shown == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("values", "code", "told"),
    [
        ({"status": "SUCCEEDED", "driver_exit_code": 0}, 0, "succeeded"),
        ({"status": "STOPPED"}, 3, "was stopped"),
        ({"status": "FAILED", "error_type": "JOB_ENTRYPOINT_COMMAND_ERROR", "driver_exit_code": 2}, 1, "exit code 2"),
        ({"status": "FAILED", "error_type": "JOB_ENTRYPOINT_COMMAND_ERROR", "driver_exit_code": -9}, 1, "by signal 9"),
        ({"status": "FAILED", "error_type": "JOB_ENTRYPOINT_COMMAND_ERROR", "driver_exit_code": 137}, 1, "by signal 9"),
        ({"status": "FAILED", "error_type": "JOB_SUPERVISOR_ACTOR_DIED"}, 4, "the node of its driver"),
        ({"status": "FAILED", "error_type": "JOB_SUPERVISOR_ACTOR_START_TIMEOUT", "message": "no\nx"}, 1, "failed: no"),
    ],
)
def test_how_a_job_ended(values, code, told):
    job = JobDetails(type="SUBMISSION", submission_id="run-teacher-1", entrypoint="python", **values)
    found, sentence = ended(job)
    assert found == code
    assert told in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("stage", "values", "state", "told"),
    [
        ("teacher", {"status": "PENDING"}, "pending", "waits for a node with a free CPU for its driver, or for"),
        ("pipeline", {"status": "PENDING"}, "pending", "waits for the head, or for its files there (submitted 20"),
        ("teacher", {"status": "RUNNING"}, "running", "job run-x-2 runs (submitted 20"),
        ("teacher", {"status": "STOPPED"}, "stopped", "job run-x-2 was stopped; submitted again, it goes on (submi"),
        ("teacher", {"status": "FAILED", "error_type": "JOB_SUPERVISOR_ACTOR_DIED"}, "lost", "the node of its driver"),
        ("teacher", {"status": "FAILED", "message": "no room"}, "failed", "job run-x-2 failed: no room (submitted 20"),
        ("teacher", {"status": "SUCCEEDED", "end_time": 1_700_000_060_000}, "succeeded", ", ended 20"),
    ],
)
def test_how_a_job_stands(stage, values, state, told):
    metadata, times = {"run": "run", "root": "/runs/run", "stage": stage}, {"start_time": 1_700_000_000_000}
    job = JobDetails(
        type="SUBMISSION", submission_id="run-x-2", entrypoint="python", metadata=metadata, **times, **values
    )
    found = standing_of(job)
    assert (found["job"], found["stage"], found["state"]) == ("run-x-2", stage, state)
    assert told in found["told"]
    assert (found["ended"] is None) == ("end_time" not in values)
