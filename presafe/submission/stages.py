"""The pipeline: a job a stage, one after the other."""

from collections.abc import Sequence
from dataclasses import replace

from ray.job_submission import JobSubmissionClient

from presafe.config import STAGES, Config
from presafe.submission.follow import follow
from presafe.submission.jobs import LOST, SUCCEEDED, Work, submit

LOSSES = 3
"""Nodes that a stage's driver may lose: spot nodes go."""


def run_stages(
    client: JobSubmissionClient, config: Config, arguments: Sequence[str], working_dir: str, within: str | None
) -> int:
    """Submit and follow the job of each stage while they succeed; the exit code of the last.

    A job of its own frees a stage's GPUs before the next one asks for them. One whose driver was lost with its node is
    submitted again, and goes on.
    """
    for stage in STAGES:
        code = _run_stage(client, Work(config, stage, arguments, working_dir, within))
        if code != SUCCEEDED:
            return code
    return SUCCEEDED


def _run_stage(client: JobSubmissionClient, work: Work) -> int:
    code = follow(client, submit(client, work))
    kept = replace(work, arguments=[argument for argument in work.arguments if argument != "--force"])
    for _ in range(LOSSES):
        if code == LOST:
            code = follow(client, submit(client, kept))
    return code
