"""A job's log as it grows, in whole lines, until the job has ended."""

import asyncio
import sys
import time
from collections.abc import Callable

import aiohttp
from ray.job_submission import JobDetails, JobSubmissionClient

from presafe.errors import user_error
from presafe.submission.client import UNREACHABLE
from presafe.submission.jobs import ended, forgotten

LOST_S = 120.0
"""How long the log's stream may be lost, in seconds, before a command gives up; the job does not notice."""
PAUSE_S = 1.0
SILENCE_S = 30.0
"""After it, the stream may be dead, or its job have ended before it had a node: the job is looked at."""
INTERRUPTED = 130


def follow(client: JobSubmissionClient, job: str) -> int:
    """Print a job's log until it has ended, and how; return the exit code.

    Raises UserError where the cluster does not answer for long, and SystemExit at Ctrl-C.
    """
    try:
        details = asyncio.run(_followed(client, job))
    except KeyboardInterrupt:
        print(f"\npresafe: job {job} goes on; {_how_to_go_on(job)}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    code, told = ended(details) if details is not None else forgotten(job)
    print(told if code == 0 else f"presafe: {told}", file=sys.stdout if code == 0 else sys.stderr, flush=True)
    return code


def _how_to_go_on(job: str) -> str:
    run, stage, _ = job.rsplit("-", 2)
    return f"`presafe logs {run} {stage}` follows it, `presafe cancel {run}` stops it"


async def _followed(client: JobSubmissionClient, job: str) -> JobDetails | None:
    """The ended job; None where the cluster does not know it any more."""
    lines = Lines(print_line)
    answered = time.monotonic()
    while True:
        lines.begin_again()
        broken = False
        try:
            stream = client.tail_job_logs(job)
            while True:
                lines.add(await asyncio.wait_for(anext(stream), SILENCE_S))
                answered = time.monotonic()
        except StopAsyncIteration:
            pass
        except (*UNREACHABLE, aiohttp.ClientError, OSError):
            broken = True
        try:
            details = await asyncio.to_thread(client.get_job_info, job)
            answered = time.monotonic()
        except UNREACHABLE as error:
            if "does not exist" in str(error):
                return None
            if time.monotonic() - answered > LOST_S:
                raise user_error(
                    found=f"no answer of the cluster for {LOST_S:g} s",
                    needed="its dashboard, to follow a job",
                    change=f"see whether it is up: job {job} goes on with the cluster; {_how_to_go_on(job)}",
                ) from error
        else:
            if details.status.is_terminal():
                if broken:
                    await _print_rest(client, job, lines)
                lines.end()
                return details
        await asyncio.sleep(PAUSE_S)


async def _print_rest(client: JobSubmissionClient, job: str, lines: "Lines") -> None:
    """What came after the stream broke, where its node is still there."""
    lines.begin_again()
    try:
        lines.add(await asyncio.to_thread(client.get_job_logs, job))
    except UNREACHABLE:
        return


def print_line(line: str) -> None:
    print(line, flush=True)


class Lines:
    """Hands on whole lines of a log that comes in pieces, each once, also when it comes again from its beginning."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._shown, self._skip, self._rest = 0, 0, ""

    def begin_again(self) -> None:
        """The next piece is the log's first."""
        self._skip, self._rest = self._shown, ""

    def add(self, text: str) -> None:
        skipped = min(self._skip, len(text))
        self._skip -= skipped
        *whole, self._rest = (self._rest + text[skipped:]).split("\n")
        for line in whole:
            self._shown += len(line) + 1
            self._show(line)

    def end(self) -> None:
        """Nothing more comes."""
        if self._rest:
            self._show(self._rest)
        self._rest = ""
