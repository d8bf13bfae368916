"""Jobs of a run: their ids RUN-STAGE-ATTEMPT, which of them run, and how one ended."""

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ray.job_submission import JobDetails, JobErrorType, JobStatus, JobSubmissionClient

from presafe.config import Config
from presafe.errors import user_error

PIPELINE = "pipeline"
"""The stage, in a job's metadata, of the job that submits all of them."""
SUCCEEDED, FAILED, STOPPED, LOST = 0, 1, 3, 4
"""Exit codes of a command that followed a job."""


@dataclass(frozen=True)
class Work:
    """What a job is to do: `stage` of `config`, by its command line; `working_dir` is a folder or a package's URI."""

    config: Config
    stage: str
    arguments: Sequence[str]
    working_dir: str
    within: str | None = None
    """The pipeline's job that asks for it."""


def submit(client: JobSubmissionClient, work: Work) -> str:
    """Submit the job and return its id, or that of the one that does the same and still runs.

    A stage's driver runs on a worker. The pipeline's runs on the head: it computes nothing, needs the dashboard, which
    may listen on the head's loopback alone, and must outlive spot nodes and not keep one up.
    """
    while True:
        name, root = work.config.run.name, work.config.run_directory.root
        before = jobs_of(client, name, work.stage)
        if running := [job for job in before if not job.status.is_terminal() and job.metadata["root"] == root]:
            print(f"job {running[-1].submission_id} still runs and is followed: {running[-1].entrypoint}", flush=True)
            return str(running[-1].submission_id)
        attempt = 1 + max((int(job.submission_id.rpartition("-")[2]) for job in before), default=0)
        identity = f"{name}-{work.stage}-{attempt}"
        metadata = {"run": name, "root": root, "stage": work.stage}
        try:
            client.submit_job(
                entrypoint=shlex.join(["python", "-m", f"jobs.{work.stage}", *work.arguments]),
                submission_id=identity,
                runtime_env={"working_dir": work.working_dir},
                metadata=metadata | ({"within": work.within} if work.within else {}),
                entrypoint_num_cpus=None if work.stage == PIPELINE else 1,
            )
        except RuntimeError as error:
            if "already exists" not in str(error):
                raise
            continue  # another command was faster
        print(f"job {identity} submitted", flush=True)
        return identity


def jobs_of(client: JobSubmissionClient, run: str, stage: str | None = None) -> list[JobDetails]:
    """The jobs of a run, by its name or its directory, in the order in which they started."""
    found = [
        job
        for job in client.list_jobs()
        if job.submission_id
        and run.rstrip("/") in ((job.metadata or {}).get("run"), (job.metadata or {}).get("root"))
        and stage in (None, job.metadata.get("stage"))
    ]
    return sorted(found, key=lambda job: (job.start_time or 0, job.submission_id))


def latest(client: JobSubmissionClient, run: str, stage: str | None) -> str:
    """The job of a run, or of one stage, that started last; a pipeline's has the logs of its stages' jobs."""
    found = jobs_of(client, run, stage)
    if not found:
        raise user_error(
            found=f"no job of {run!r}{f' for {stage}' if stage else ''} on this cluster",
            needed="a run, NAME or STORAGE/NAME, that was submitted to it",
            change="correct the name, or --address; `ray job list` shows all jobs",
        )
    chosen = [job for job in found if stage or "within" not in job.metadata] or found
    return str(chosen[-1].submission_id)


def ended(job: JobDetails) -> tuple[int, str]:
    """Exit code, and how the job ended in a sentence."""
    if job.status == JobStatus.SUCCEEDED:
        return SUCCEEDED, f"job {job.submission_id} succeeded"
    if job.status == JobStatus.STOPPED or job.driver_exit_code == STOPPED:
        return STOPPED, f"job {job.submission_id} was stopped; submitted again, it goes on"
    if job.error_type == JobErrorType.JOB_SUPERVISOR_ACTOR_DIED.value:
        why = "the node of its driver, or Ray's process there, died; submitted again, it goes on"
        return LOST, f"job {job.submission_id} was lost: {why}"
    if job.error_type != JobErrorType.JOB_ENTRYPOINT_COMMAND_ERROR.value:
        why = ((job.message or "").splitlines() or ["for no known reason"])[0]
    elif (code := job.driver_exit_code or 0) < 0 or code > 128:
        why = f"its driver was killed by signal {-code if code < 0 else code - 128}; submitted again, it goes on"
    else:
        why = f"its driver ended with exit code {code}; its log says why"
    return FAILED, f"job {job.submission_id} failed: {why}"


def forgotten(job: str) -> tuple[int, str]:
    """Exit code and sentence of a job that was there, and that the cluster does not know any more."""
    why = "the cluster does not know it, as its head was started anew; submitted again, it goes on"
    return LOST, f"job {job} was lost: {why}"


def package_of_this_job() -> str | None:
    """URI of the package that this process's job was submitted with; None where it is no submitted job."""
    given = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    uri: str | None = given.get("runtime_env", {}).get("working_dir")
    return uri
