"""How the jobs of a run stand on a cluster: of each stage the latest, and the pipeline's."""

import time
from typing import Any

from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from presafe.config import STAGES
from presafe.submission.jobs import FAILED, LOST, PIPELINE, STOPPED, SUCCEEDED, ended, jobs_of
from presafe.writer import TIME

ENDS = {SUCCEEDED: "succeeded", FAILED: "failed", STOPPED: "stopped", LOST: "lost"}


def latest_jobs(client: JobSubmissionClient, run: str) -> list[dict[str, Any]]:
    """How the latest job of each stage of a run, by its name or its directory, stands; the pipeline's first."""
    latest = {job.metadata["stage"]: job for job in jobs_of(client, run)}
    return [standing_of(latest[stage]) for stage in (PIPELINE, *STAGES) if stage in latest]


def standing_of(job: JobDetails) -> dict[str, Any]:
    """`job`, `stage`, `state` (pending, running, succeeded, failed, stopped or lost), when it was `submitted` and has
    `ended` (null before), and all of that `told` in a sentence.
    """
    state, told = _told(job)
    submitted, end = _time(job.start_time), _time(job.end_time)
    return {
        "job": job.submission_id,
        "stage": job.metadata["stage"],
        "state": state,
        "submitted": submitted,
        "ended": end,
        "told": f"{told} (submitted {submitted}{f', ended {end}' if end else ''})",
    }


def _told(job: JobDetails) -> tuple[str, str]:
    if job.status == JobStatus.PENDING:  # Ray does not say which of the two
        place = "the head" if job.metadata["stage"] == PIPELINE else "a node with a free CPU for its driver"
        return "pending", f"job {job.submission_id} waits for {place}, or for its files there"
    if job.status == JobStatus.RUNNING:
        return "running", f"job {job.submission_id} runs"
    code, told = ended(job)
    return ENDS[code], told


def _time(milliseconds: int | None) -> str | None:
    """As a run directory has it; None where it has not come."""
    return time.strftime(TIME, time.localtime(milliseconds / 1000)) if milliseconds else None
