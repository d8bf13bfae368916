"""Why an endpoint did not answer, and what that means for the request, its row and the job."""

import json
import re
import time
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import openai

Meaning = Literal["passing", "prompt", "filtered", "field", "forbidden", "foreign", "unusable"]
"""`passing`: a retry may help. `prompt`: this prompt fails again. `filtered`: the provider's filter stops this prompt.
`unusable`: no prompt can mend it. The others cost a row where the endpoint has answered before, and end the job where
it never has: a refused `field` of the request, a `forbidden` request, and what is no chat completion (`foreign`)."""

PASSING = (408, 409, 425, 429)
"""Client errors that may pass, beside all server errors."""
UNUSABLE = (401, 402, 404, 405)
LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")
"""How many tokens at most, in the words of chat completions and of OpenAI's reasoning models."""

FILTER_CODES = re.compile(
    r"content_?filter|content_policy|responsible_?ai|moderation|data_?inspection|guardrail|prompt_blocked|blocked_prompt"
    r"|invalid_prompt|unsafe_content|policy_violation|sensitive|prohibited_content|^safety$|^1301$",
    re.IGNORECASE,
)
"""What providers write as code or type where their filter stops a prompt."""
FILTER_WORDS = re.compile(
    r"content (management|moderation|safety|usage)? ?polic|usage polic|safety (system|filter|guidelines)|content filter"
    r"|flagged|content exists risk|inappropriate content|violat\w+ .{0,40}(polic|guideline|terms)",
    re.IGNORECASE,
)
"""And in their messages, where there is no such code."""
PROMPT_CODES = re.compile(r"invalid|bad_request|context_length|unsupported|unprocessable|validation", re.IGNORECASE)


class RequestError(Exception):
    """One request without an answer; its text is type and first line of what the endpoint says."""

    def __init__(self, meaning: Meaning, text: str, *, retry_after: float | None = None, field: str = "") -> None:
        super().__init__(utf8(text))
        self.meaning, self.retry_after, self.field = meaning, retry_after, field
        self.wants_completion_tokens = False


def of_status(error: openai.APIStatusError, fields: Iterable[str]) -> RequestError:
    """The failure of an HTTP status; `fields` are those of the request that it may refuse."""
    try:
        body = json.loads(error.response.text)
    except ValueError:
        body = error.message
    failure = _failure(error.status_code, body, f"{type(error).__name__}: ", fields)
    failure.retry_after = _seconds(error.response.headers.get("retry-after", ""))
    return failure


def of_body(body: dict[str, Any]) -> RequestError:
    """The failure that a gateway writes into an answer of status 200."""
    found = _said(body)
    said = (str(found.get(name)) for name in ("code", "status"))
    status = next((int(value) for value in said if value.isdecimal() and 400 <= int(value) < 600), None)
    if status is None:
        of_prompt = any(PROMPT_CODES.search(str(code)) or FILTER_CODES.search(str(code)) for code in _codes(found))
        status = 400 if of_prompt or FILTER_WORDS.search(str(found.get("message"))) else 500
    failure = _failure(status, body, "an error in place of an answer: ", ())
    if failure.meaning == "unusable":
        failure.meaning = "forbidden"  # a gateway passes on what one of its providers says of itself
    return failure


def utf8(text: str) -> str:
    """The text without lone surrogates, which JSON can say and no file can hold."""
    return text.encode("utf-8", "replace").decode()


def _failure(status: int, body: Any, before: str, fields: Iterable[str]) -> RequestError:
    found = _said(body)
    message = str(found.get("message") or body)
    text = before + _line(message)
    codes = [str(value) for value in _codes(found)]
    if status < 500 and status not in (401, *PASSING):
        flagged = isinstance(found.get("metadata"), dict) and "flagged_input" in found["metadata"]
        if flagged or status == 451 or any(map(FILTER_CODES.search, codes)) or FILTER_WORDS.search(message):
            return RequestError("filtered", text)
    if "insufficient_quota" in codes or status in UNUSABLE:
        return RequestError("unusable", text)
    if status in PASSING or status >= 500:
        return RequestError("passing", text)
    if status == 403:
        return RequestError("forbidden", text)
    if refused := next((name for name in fields if re.search(rf"\b{name}\b", f"{found.get('param')} {message}")), ""):
        failure = RequestError("field", text, field=refused)
        failure.wants_completion_tokens = refused == "max_tokens" and "max_completion_tokens" in message
        return failure
    return RequestError("prompt", text)


def _said(body: Any) -> dict[str, Any]:
    """The error object of a body, whichever way a server writes it."""
    if not isinstance(body, dict):
        return {"message": body}
    error = body.get("error") or body.get("detail") or body
    return error if isinstance(error, dict) else {**body, "message": error}


def _codes(found: dict[str, Any]) -> Iterable[Any]:
    inner = found.get("innererror") or found.get("inner_error")
    for level in (found, inner if isinstance(inner, dict) else {}):
        yield from (level[name] for name in ("code", "type", "reason") if level.get(name))


def _seconds(retry_after: str) -> float | None:
    """Seconds of a Retry-After header, which has a number or a date."""
    if retry_after.replace(".", "", 1).isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None


def _line(text: str) -> str:
    return text.strip().splitlines()[0][:300] if text.strip() else "no message"
