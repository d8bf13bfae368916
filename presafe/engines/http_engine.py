"""Generation through any endpoint that speaks OpenAI's chat completions.

Three kinds of failure (http_failure.py): what may pass is retried (no connection, 408, 409, 429, 5xx, cut bodies); what
concerns one prompt becomes that query's error, or its finish reason where a filter stopped it; what no prompt can mend
(the URL, the key, the model's name, the quota) raises UserError at once, since it would fail every row of the job.
"""

import asyncio
import json
import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import openai
from aiolimiter import AsyncLimiter
from pydantic import BaseModel
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from presafe.config import Decoding, HttpSettings
from presafe.conversation import messages
from presafe.engines.engine import Completion, IsDecided, Query, Tell, failed, query_seed, told_nobody
from presafe.engines.http_answer import Answer, whole_answer, with_chunk
from presafe.engines.http_failure import LIMIT_FIELDS, RequestError, of_body, of_status
from presafe.errors import UserError, user_error

REACH_TIMEOUT_S = 30.0
"""Seconds in which an endpoint must list its models: nothing is generated for that."""
OPTIONAL = ("temperature", "top_p", "seed", "stream_options")
"""Fields of a request that it can do without."""
OF_ALL = ("field", "forbidden", "foreign")
"""Failures that concern every prompt where the endpoint has never answered one."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
"""Backoff: twice as long at most after each failure, and random below that, so that a pool does not retry in step."""


class HttpEngine:
    """An Engine. Its requests share one event loop, one connection pool and one rate limit over all calls."""

    def __init__(self, settings: HttpSettings, num_workers: int) -> None:
        """`num_workers` engines share the rate limit. Raises UserError where the endpoint or the key is no good."""
        key = os.environ.get(settings.api_key_env)
        self._settings, self._runner, self._answered = settings, asyncio.Runner(), False
        self._limit_field = LIMIT_FIELDS[0]
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
        self,
        queries: Sequence[Query],
        decoding: Decoding,
        seed: int,
        decided: IsDecided | None = None,
        tell: Tell = told_nobody,
    ) -> list[Completion]:
        """One completion a query, in order. Repeatable as far as the endpoint honours `seed`.

        Raises UserError where the endpoint is gone, or refuses all that it is asked.
        """
        assert all(query.prefill is None for query in queries), "the protocol has no beginning of an answer"
        return self._runner.run(self._generate(queries, decoding, seed, decided, tell))

    async def _generate(
        self, queries: Sequence[Query], decoding: Decoding, seed: int, decided: IsDecided | None, tell: Tell
    ) -> list[Completion]:
        failures: list[RequestError] = []
        unconnected: list[openai.APIConnectionError] = []

        async def one(query: Query) -> Completion:
            if problem := self._problem(query):
                return failed(problem)
            try:
                async with self._slots:
                    completion = await self._with_retries(query, decoding, seed, decided)
            except RequestError as failure:
                if failure.meaning == "unusable":
                    raise self._unusable(str(failure)) from failure
                if failure.meaning != "filtered":
                    failures.append(failure)
                    return failed(str(failure))
                completion = Completion("", "", "filtered", 0)
            except openai.APIError as error:
                if isinstance(error, openai.APIConnectionError) and not isinstance(error, openai.APITimeoutError):
                    unconnected.append(error)
                return failed(_described(error))
            except (json.JSONDecodeError, RecursionError) as error:
                return failed(f"{type(error).__name__}: {error}")
            self._answered = True
            return completion

        lengths: list[int] = []

        async def told(query: Query) -> Completion:
            completion = await one(query)
            lengths.append(completion.num_tokens)
            tell(len(lengths), sum(lengths))
            return completion

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(told(query)) for query in queries]
        except* UserError as errors:
            raise errors.exceptions[0] from None
        # Some gateways answer 403 to a single prompt that they moderate; a key that is no good has never had an answer.
        of_all = next((failure for failure in failures if failure.meaning in OF_ALL), None)
        if of_all and not self._answered:
            raise self._unusable(str(of_all), of_all.field)
        if unconnected:
            await self._reach()
        return [task.result() for task in tasks]

    def _problem(self, query: Query) -> str | None:
        """Why a query must not be sent."""
        if not query.text.strip():
            return "empty prompt"
        size = sum(len(turn["content"]) for turn in messages(query))
        if size > (most := self._settings.max_prompt_characters):
            return f"prompt of {size} characters; the engine takes {most}"
        return None

    def _body(self, query: Query, decoding: Decoding, seed: int) -> dict[str, Any]:
        fields = {
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "seed": query_seed(seed, query),
            self._limit_field: decoding.max_new_tokens,
        }
        return {
            "model": self._settings.model,
            "messages": messages(query, query.role),
            **{name: value for name, value in fields.items() if name not in self._settings.omit},
            "extra_headers": self._headers,
            "extra_body": self._settings.cot_on if query.cot == "on" else self._settings.cot_off,
        }

    async def _with_retries(self, query: Query, decoding: Decoding, seed: int, decided: IsDecided | None) -> Completion:
        """The completion of one query; raises RequestError or openai.APIError where it finally failed."""
        async for attempt in self._attempts():
            with attempt:
                field = self._limit_field
                try:
                    return await self._ask(query, decoding, seed, decided)
                except RequestError as failure:
                    if not (failure.wants_completion_tokens and field == LIMIT_FIELDS[0]):
                        raise
                self._limit_field = LIMIT_FIELDS[1]  # OpenAI's reasoning models take no other; from now on for all
                return await self._ask(query, decoding, seed, decided)
        raise AssertionError("the last attempt returns or raises")

    async def _ask(self, query: Query, decoding: Decoding, seed: int, decided: IsDecided | None) -> Completion:
        async with self._limit:
            pass
        body = self._body(query, decoding, seed)
        try:
            if decided is not None and query.stop_early:
                answer = await self._streamed(body, query, decided)
            else:
                answer = await self._whole(body)
        except openai.APIStatusError as error:
            raise of_status(error, [*LIMIT_FIELDS, *OPTIONAL, *body["extra_body"]]) from error
        except openai.APIConnectionError:
            raise
        except openai.APIError as error:  # an event in the middle of a stream
            raise of_body({"error": error.body or error.message}) from error
        if query.decision is not None and answer.presafe is not None and answer.presafe.gate == "on":
            raise RequestError("unusable", "an endpoint with its gate on; what a gate does follows from p' (gate=off)")
        return answer.completion(decoding.max_new_tokens)

    async def _whole(self, body: dict[str, Any]) -> Answer:
        response = await self._client.chat.completions.with_raw_response.create(**body)
        return whole_answer(response.http_response.text)

    async def _streamed(self, body: dict[str, Any], query: Query, decided: IsDecided) -> Answer:
        """The same, read as it is written, and closed as soon as it is decided: an endpoint then stops generating.

        Raises RequestError where the stream ends without an end, as one that breaks off does.
        """
        answer = Answer()
        options: dict[str, Any] = {"stream_options": {"include_usage": True}}
        if "stream_options" in self._settings.omit:
            options = {}
        stream = await self._client.chat.completions.create(**body, stream=True, **options)
        async with stream:
            async for chunk in stream:
                if not isinstance(chunk, BaseModel):
                    raise RequestError("passing", f"a chunk that is no object: {str(chunk)[:80]!r}")
                answer = with_chunk(answer, chunk.model_dump(warnings=False), streamed=True)
                beginning = answer.beginning(query.cot) if answer.finish_reason is None else None
                if beginning is not None and decided(beginning):
                    return answer.finished("decided", answer.num_tokens)
        if answer == Answer():
            return await self._whole(body)  # not every endpoint streams
        if answer.finish_reason is None and not answer.counted:
            raise RequestError("passing", "a stream without an end")
        return answer

    def _attempts(self) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception(self._may_pass),
            wait=self._wait,
            stop=stop_after_attempt(1 + self._settings.max_retries),
            reraise=True,
        )

    def _wait(self, state: RetryCallState) -> float:
        """Seconds before the next attempt: what the endpoint asked for with Retry-After, else random backoff."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, RequestError) and error.retry_after is not None:
            return min(error.retry_after, self._settings.timeout_s)
        return wait_random_exponential(FIRST_WAIT_S, LONGEST_WAIT_S)(state)

    async def _reach(self) -> None:
        """Raise UserError where nobody answers at the URL, or the key is refused; many endpoints list no models."""
        client = self._client.with_options(timeout=min(self._settings.timeout_s, REACH_TIMEOUT_S))
        try:
            async for attempt in self._attempts():
                with attempt:
                    await client.models.with_raw_response.list(extra_headers=self._headers)
        except (openai.APIConnectionError, openai.AuthenticationError) as error:
            raise self._unusable(_described(error)) from error
        except openai.APIStatusError:
            return

    def _may_pass(self, error: BaseException) -> bool:
        """An APIError without a status comes from a connection; a web page, from a gateway that has answered before."""
        if isinstance(error, RequestError):
            return error.meaning == "passing" or (error.meaning == "foreign" and self._answered)
        if isinstance(error, openai.APIStatusError):  # of the list of models
            return error.status_code >= 500
        return isinstance(error, openai.APIError | json.JSONDecodeError)

    def _unusable(self, problem: str, field: str = "") -> UserError:
        settings = self._settings
        change = f"correct the engine's base_url and model, or the key in {settings.api_key_env} of every worker"
        if field:
            own = field in (*settings.cot_on, *settings.cot_off)
            change = "correct its cot_on and cot_off" if own else f"add {field} to its `omit`, or correct the decoding"
        return user_error(
            found=problem, needed=f"model {settings.model!r} at {settings.base_url}/chat/completions", change=change
        )


def _described(error: openai.APIError) -> str:
    """Type, and the first line of what the endpoint, or the network below, says."""
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else None
    text = f"{error.message} ({cause})" if cause and str(cause) else error.message
    return f"{type(error).__name__}: {text.strip().splitlines()[0][:300]}"
