"""Generation through any endpoint that speaks OpenAI's chat completions.

Three kinds of failure: what may pass is retried (no connection, 408, 409, 429, 5xx); what concerns one prompt becomes
that query's error; what no prompt can mend (the URL, the key, the model's name, the quota) raises UserError at once,
since it would fail every row of the job.
"""

import asyncio
import json
import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import openai
from aiolimiter import AsyncLimiter
from openai.types.chat import ChatCompletion
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from presafe.config import Decoding, HttpSettings
from presafe.engines.engine import Completion, Decided, Query, failed, query_seed
from presafe.engines.http_answer import Answer
from presafe.errors import UserError, user_error

PASSING = (408, 409, 429)
"""Client errors that may pass, beside all server errors."""
REACH_TIMEOUT_S = 30.0
"""Seconds in which an endpoint must list its models: nothing is generated for that."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
"""Backoff: twice as long at most after each failure, and random below that, so that a pool does not retry in step."""


class HttpEngine:
    """An Engine. Its requests share one event loop, one connection pool and one rate limit over all calls."""

    def __init__(self, settings: HttpSettings, num_workers: int) -> None:
        """`num_workers` engines share the rate limit. Raises UserError where the endpoint or the key is no good."""
        key = os.environ.get(settings.api_key_env)
        self._settings, self._runner, self._answered = settings, asyncio.Runner(), False
        self._client = openai.AsyncOpenAI(
            base_url=settings.base_url,
            api_key=key or "none",
            timeout=settings.timeout_s,
            max_retries=0,
        )
        self._headers = {} if key else {"Authorization": openai.omit}
        rate = settings.requests_per_minute
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._limit = AsyncLimiter(1, 60 * num_workers / rate) if rate else nullcontext()
        self._runner.run(self._reach())

    def generate(
        self, queries: Sequence[Query], decoding: Decoding, seed: int, decided: Decided | None = None
    ) -> list[Completion]:
        """One completion a query, in order. Repeatable as far as the endpoint honours `seed`.

        Raises UserError where the endpoint is gone, or refuses all that it is asked.
        """
        return self._runner.run(self._generate(queries, decoding, seed, decided))

    async def _generate(
        self, queries: Sequence[Query], decoding: Decoding, seed: int, decided: Decided | None
    ) -> list[Completion]:
        forbidden: list[openai.PermissionDeniedError] = []
        unconnected: list[openai.APIConnectionError] = []

        async def one(query: Query) -> Completion:
            if problem := self._problem(query):
                return failed(problem)
            try:
                async with self._slots:
                    answer = await self._with_retries(self._body(query, decoding, seed), query, decided)
            except openai.PermissionDeniedError as error:
                forbidden.append(error)
                return failed(_described(error))
            except openai.APIError as error:
                if _fatal(error):
                    raise self._unusable(error) from error
                if isinstance(error, openai.APIConnectionError) and not isinstance(error, openai.APITimeoutError):
                    unconnected.append(error)
                return failed(_described(error))
            except json.JSONDecodeError as error:
                return failed(f"JSONDecodeError: {error}")
            self._answered = True
            return answer.completion()

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(query)) for query in queries]
        except* UserError as errors:
            raise errors.exceptions[0] from None
        # Some gateways answer 403 to a single prompt that they moderate; a key that is no good has never had an answer.
        if forbidden and not self._answered:
            raise self._unusable(forbidden[0])
        if unconnected:
            await self._reach()
        return [task.result() for task in tasks]

    def _problem(self, query: Query) -> str | None:
        """Why a query must not be sent."""
        if not query.text.strip():
            return "empty prompt"
        if len(query.text) > (most := self._settings.max_prompt_characters):
            return f"prompt of {len(query.text)} characters; the engine takes {most}"
        return None

    def _body(self, query: Query, decoding: Decoding, seed: int) -> dict[str, Any]:
        return {
            "model": self._settings.model,
            "messages": [{"role": "user", "content": query.text}],
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "max_tokens": decoding.max_new_tokens,
            "seed": query_seed(seed, query),
            "extra_headers": self._headers,
            "extra_body": self._settings.cot_on if query.cot == "on" else self._settings.cot_off,
        }

    async def _with_retries(self, body: dict[str, Any], query: Query, decided: Decided | None) -> Answer:
        """The answer to one request; raises openai.APIError where it finally failed."""
        async for attempt in self._attempts():
            with attempt:
                async with self._limit:
                    pass
                if decided is not None and query.stop_early:
                    return await self._streamed(body, query, decided)
                return self._whole(await self._client.chat.completions.create(**body))
        raise AssertionError("the last attempt returns or raises")

    def _whole(self, response: Any) -> Answer:
        if not isinstance(response, ChatCompletion) or not response.choices:
            raise self._unusable(f"an answer that is no chat completion: {str(response)[:80]!r}")
        choice = response.choices[0]
        message = choice.message.model_dump()
        tokens = response.usage.completion_tokens if response.usage else 0
        return Answer().grown(message).finished(choice.finish_reason or "none", tokens)

    async def _streamed(self, body: dict[str, Any], query: Query, decided: Decided) -> Answer:
        """The same, read as it is written, and closed as soon as it is decided: an endpoint then stops generating."""
        answer = Answer()
        stream = await self._client.chat.completions.create(**body, stream=True, stream_options={"include_usage": True})
        async with stream:
            async for chunk in stream:
                for choice in chunk.choices:
                    answer = answer.grown(choice.delta.model_dump(), chunks=1)
                    if choice.finish_reason:
                        answer = answer.finished(choice.finish_reason, answer.num_tokens)
                    elif (beginning := answer.beginning(query.cot)) is not None and decided(beginning):
                        return answer.finished("decided", answer.num_tokens)
                if chunk.usage:
                    answer = answer.finished(answer.finish_reason, chunk.usage.completion_tokens)
        return answer

    def _attempts(self) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            wait=self._wait,
            stop=stop_after_attempt(1 + self._settings.max_retries),
            reraise=True,
        )

    def _wait(self, state: RetryCallState) -> float:
        """Seconds before the next attempt: what the endpoint asked for with Retry-After, else random backoff."""
        error = state.outcome.exception() if state.outcome else None
        asked = error.response.headers.get("retry-after", "") if isinstance(error, openai.APIStatusError) else ""
        if asked.replace(".", "", 1).isdigit():
            return min(float(asked), self._settings.timeout_s)
        return wait_random_exponential(FIRST_WAIT_S, LONGEST_WAIT_S)(state)

    async def _reach(self) -> None:
        """Raise UserError where nobody answers at the URL, or the key is refused; many endpoints list no models."""
        client = self._client.with_options(timeout=min(self._settings.timeout_s, REACH_TIMEOUT_S))
        try:
            async for attempt in self._attempts():
                with attempt:
                    await client.models.with_raw_response.list(extra_headers=self._headers)
        except (openai.APIConnectionError, openai.AuthenticationError) as error:
            raise self._unusable(error) from error
        except openai.APIStatusError:
            return

    def _unusable(self, problem: openai.APIError | str) -> UserError:
        settings = self._settings
        return user_error(
            found=problem if isinstance(problem, str) else _described(problem),
            needed=f"model {settings.model!r} at {settings.base_url}/chat/completions",
            change=f"correct the engine's base_url and model, or the key in {settings.api_key_env} of every worker",
        )


def _may_pass(error: BaseException) -> bool:
    """An APIError without a status comes from a connection, or as an event in the middle of a stream."""
    if isinstance(error, openai.APIStatusError):
        return (error.status_code in PASSING or error.status_code >= 500) and not _fatal(error)
    return isinstance(error, openai.APIError | json.JSONDecodeError)


def _fatal(error: openai.APIError) -> bool:
    if isinstance(error, openai.APIStatusError):
        return error.status_code in (401, 404, 405) or error.code == "insufficient_quota"
    return False


def _described(error: openai.APIError) -> str:
    """Type, and the first line of what the endpoint, or the network below, says."""
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else None
    text = f"{error.message} ({cause})" if cause and str(cause) else error.message
    return f"{type(error).__name__}: {text.strip().splitlines()[0][:300]}"
