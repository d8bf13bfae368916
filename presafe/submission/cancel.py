"""The end of a run's jobs on demand."""

import time

from ray.job_submission import JobSubmissionClient

from presafe.submission.jobs import FAILED, PIPELINE, SUCCEEDED, jobs_of, latest

WAIT_S = 60.0
"""Ray kills a driver that goes on for 3 s after SIGTERM."""
PAUSE_S = 0.2


def cancel(client: JobSubmissionClient, run: str) -> int:
    """Stop the jobs of a run that have not ended, the pipeline's first, wait for it, and say which; an exit code."""
    latest(client, run, None)  # raises where there is no such run
    stopped = [*_stop(client, run, PIPELINE), *_stop(client, run, None)]
    if not stopped:
        print(f"no job of {run} runs")
    return SUCCEEDED if all(stopped) else FAILED


def _stop(client: JobSubmissionClient, run: str, stage: str | None) -> list[bool]:
    """Whether each has ended in time."""
    jobs = [job.submission_id for job in jobs_of(client, run, stage) if not job.status.is_terminal()]
    for job in jobs:
        client.stop_job(job)
    end = time.monotonic() + WAIT_S
    ended = []
    for job in jobs:
        while not (status := client.get_job_status(job)).is_terminal() and time.monotonic() < end:
            time.sleep(PAUSE_S)
        ended.append(status.is_terminal())
        told = f"ended as {status}" if ended[-1] else f"is {status} still, and ends when its driver has a node"
        print(f"job {job} {told}", flush=True)
    return ended
