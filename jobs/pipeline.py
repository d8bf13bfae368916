"""Job `pipeline`: every stage as a Ray job of its own, one after the other, on the cluster at --address.

    python -m jobs.pipeline --address http://HEAD:8265 --config configs/r1-qwen-7b.yaml run.storage=s3://bucket/runs

A job of its own frees a stage's GPUs before the next one asks for them. Every node must reach the storage.
Without an address (and without RAY_API_SERVER_ADDRESS) the stages run in this process, like `presafe run`.
"""

import argparse
import asyncio
import logging
import os
import shlex
import sys

from ray.job_submission import JobStatus, JobSubmissionClient

from presafe.cli import main as presafe
from presafe.config import STAGES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default=os.environ.get("RAY_API_SERVER_ADDRESS"), help="URL of Ray's dashboard")
    parsed, arguments = parser.parse_known_args()
    logging.getLogger("ray").setLevel(logging.WARNING)
    if parsed.address is None:
        presafe(["run", *arguments])
        return
    try:
        client = JobSubmissionClient(parsed.address)
    except ConnectionError as error:
        print(f"presafe: found no Ray dashboard ({error}); needed a cluster's; correct --address", file=sys.stderr)
        raise SystemExit(2) from None
    for stage in STAGES:
        status = asyncio.run(submit(client, stage, arguments))
        if status != JobStatus.SUCCEEDED:
            sys.exit(f"presafe: job {stage} ended as {status}; the stages before it are done and will be skipped")


async def submit(client: JobSubmissionClient, stage: str, arguments: list[str]) -> JobStatus:
    """Submit one stage, print its log as it grows, and return how it ended."""
    job = client.submit_job(
        entrypoint=shlex.join(["python", "-m", f"jobs.{stage}", *arguments]),
        runtime_env={"working_dir": "."},
        entrypoint_num_cpus=1,
        metadata={"stage": stage},
    )
    print(f"{stage}: {job}", flush=True)
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)
    return client.get_job_status(job)


if __name__ == "__main__":
    main()
