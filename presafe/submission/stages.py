"""The pipeline: a job a stage, one after the other."""

from collections.abc import Sequence

from ray.job_submission import JobSubmissionClient

from presafe.config import STAGES, Config
from presafe.submission.follow import follow
from presafe.submission.jobs import SUCCEEDED, Work, submit


def run_stages(
    client: JobSubmissionClient, config: Config, arguments: Sequence[str], working_dir: str, within: str | None
) -> int:
    """Submit and follow the job of each stage while they succeed; the exit code of the last.

    A job of its own frees a stage's GPUs before the next one asks for them.
    """
    for stage in STAGES:
        code = follow(client, submit(client, Work(config, stage, arguments, working_dir, within)))
        if code != SUCCEEDED:
            return code
    return SUCCEEDED
