"""The client of s3:// URLs: what passes is tried again, whoever asks; what does not pass is told in one sentence.

Ray's own reads and writes go through it too (`arrow_file_system`): one set of credentials, one patience.
"""

import logging
import time
from typing import Any

import aiohttp
from botocore import exceptions
from fsspec.asyn import sync_wrapper
from s3fs.core import S3_RETRYABLE_ERRORS, S3FileSystem
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_delay, wait_random_exponential

from presafe.errors import StorageError, UserError, user_error

logger = logging.getLogger("presafe")

PATIENCE_S, LONGEST_WAIT_S = 180.0, 5.0
"""How long a request is tried, and the longest wait between two tries."""
QUIET_S = 60.0
"""Failures that are nearer to each other than this are one outage, of which one line is logged."""
BUSY = (429, 500, 502, 503, 504)
PASSING = (*S3_RETRYABLE_ERRORS, exceptions.ConnectionError, aiohttp.ClientError, OSError)
LASTING = (exceptions.SSLError, PermissionError, FileNotFoundError)
NO_CREDENTIALS = (
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.CredentialRetrievalError,
    exceptions.TokenRetrievalError,
    exceptions.ProfileNotFound,
)
OTHER_REGION = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301")

_last_failure = float("-inf")


class S3(S3FileSystem):  # type: ignore[misc]
    """s3fs, patient. Folders need no making here; s3fs would make the bucket of a misspelt URL instead."""

    async def _call_s3(self, method: str, *arguments: Any, **named: Any) -> Any:
        attempts = AsyncRetrying(
            retry=retry_if_exception(_passes),
            wait=wait_random_exponential(multiplier=0.2, max=LONGEST_WAIT_S),
            stop=stop_after_delay(PATIENCE_S),
            before_sleep=_tell_once,
            reraise=True,
        )
        try:
            return await attempts(super()._call_s3, method, *arguments, **named)
        except Exception as error:
            url = "s3://" + "/".join(named[name] for name in ("Bucket", "Key") if named.get(name))
            if (told := _sentence(url, error)) is None:
                raise
            raise StorageError(str(told)) from error

    call_s3 = sync_wrapper(_call_s3)

    async def _mkdir(self, path: str, acl: Any = False, create_parents: bool = True, **named: Any) -> None:
        pass

    mkdir = sync_wrapper(_mkdir)


def _response(error: BaseException | None) -> dict[str, Any]:
    """What the store answered, also where s3fs made another exception of it; empty where it did not answer."""
    cause = error if isinstance(error, exceptions.ClientError) else error.__cause__ if error is not None else None
    return cause.response if isinstance(cause, exceptions.ClientError) else {}


def _passes(error: BaseException) -> bool:
    if response := _response(error):
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode") in BUSY or _code(response) == "RequestTimeout"
    # s3fs makes no exception of Python's own out of what is not an answer: an OSError is the network's.
    return isinstance(error, PASSING) and not isinstance(error, LASTING)


def _code(response: dict[str, Any]) -> str:
    return str(response.get("Error", {}).get("Code", ""))


def _tell_once(state: RetryCallState) -> None:
    global _last_failure
    now, before = time.monotonic(), _last_failure
    _last_failure = now
    if now - before >= QUIET_S and state.outcome is not None:
        error = state.outcome.exception()
        logger.warning("the store does not answer (%s): each request is tried again for %.0f s", error, PATIENCE_S)


def _sentence(url: str, error: Exception) -> UserError | None:
    """What to tell a user; None where a file is not there, say, which is for the caller to judge."""
    response = _response(error)
    code = _code(response)
    if code == "NoSuchBucket":
        return user_error(
            found=f"no bucket of {url}",
            needed="one that is there",
            change="make it, or correct the URL: it may stand in run.storage",
        )
    if code in OTHER_REGION or isinstance(error, exceptions.NoRegionError):
        return user_error(
            found=f"{url}, which is in another region than the one that is asked ({error})",
            needed="the bucket's own region",
            change="set AWS_DEFAULT_REGION to it, on every node",
        )
    if isinstance(error, (PermissionError, *NO_CREDENTIALS)):
        return user_error(
            found=f"{url}, which the store does not let this process use ({code or type(error).__name__}: {error})",
            needed="credentials that may list, read, write and delete there",
            change="correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or the machine's role, on every "
            "node",
        )
    if _passes(error):
        return user_error(
            found=f"{url}, whose store did not answer for {PATIENCE_S:.0f} s ({error})",
            needed="a store that is up and in reach",
            change="see to it, or correct AWS_ENDPOINT_URL, and run the same command again: it goes on from there",
        )
    return None
