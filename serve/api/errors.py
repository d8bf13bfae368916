"""Every error in OpenAI's shape, `{"error": {message, type, param, code}}`, and none with a stack trace."""

from asyncio import CancelledError
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

CLIENT_LEFT = 499
"""As nginx counts it: the client was gone before it had an answer. Nobody reads this status."""
LONGEST_MESSAGE, LONGEST_PARAM = 1000, 200
"""Characters; some messages repeat what the client sent."""


class ApiError(Exception):
    """A request that cannot be served, for a reason its client can mend, if only by coming again later."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """`kind` is OpenAI's `type`; `headers` go into the response."""
        super().__init__(message)
        self.status, self.message, self.kind, self.param, self.code = status, message, kind, param, code
        self.headers = headers


def shortened(text: str, longest: int) -> str:
    """What an error repeats of what a client sent."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def error_body(
    message: str, *, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """The body of an error; `kind` is OpenAI's `type`."""
    param = None if param is None else shortened(param, LONGEST_PARAM)
    return {"error": {"message": shortened(message, LONGEST_MESSAGE), "type": kind, "param": param, "code": code}}


INTERNAL_ERROR = error_body("the server failed; its log says why", kind="server_error")
TIMEOUT = error_body("the completion took too long; ask for fewer tokens", kind="server_error", code="timeout")


def _api_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    body = error_body(error.message, kind=error.kind, param=error.param, code=error.code)
    return JSONResponse(body, error.status, headers=error.headers)


def _invalid_request(_: Request, error: Exception) -> JSONResponse:
    """FastAPI's 422 as OpenAI's 400: the first thing that is wrong, with its field, without the client's input."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    param = _field(first["loc"])
    match first["type"]:
        case "json_invalid":
            return JSONResponse(error_body(f"the body is not JSON: {first['ctx']['error']}"), 400)
        case "extra_forbidden":
            message, code = f"unknown or unsupported field {param!r}; leave it out", "unknown_parameter"
        case "missing":
            message, code = f"missing field {param!r}", "missing_required_parameter"
        case _:
            message, code = f"{param or 'body'}: {first['msg'].removeprefix('Value error, ')}", "invalid_value"
    return JSONResponse(error_body(message, param=param, code=code), 400)


def _http_error(request: Request, error: Exception) -> JSONResponse:
    """No such address, or not with this method."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse(error_body(message), error.status_code, headers=error.headers)


def _client_left(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_LEFT)


def _timeout(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse(TIMEOUT, 504)


def _internal_error(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse(INTERNAL_ERROR, 500)


HANDLERS: dict[int | type[Exception], Callable[[Request, Exception], Any]] = {
    ApiError: _api_error,
    RequestValidationError: _invalid_request,
    HTTPException: _http_error,
    ClientDisconnect: _client_left,
    TimeoutError: _timeout,
    Exception: _internal_error,
}
"""For FastAPI's `exception_handlers`."""


def status_of(error: BaseException) -> int:
    """The HTTP status that an exception ends in. Ray Serve cancels a request whose client has left."""
    match error:
        case ApiError():
            return error.status
        case ClientDisconnect() | CancelledError():
            return CLIENT_LEFT
        case RequestValidationError():
            return 400
        case TimeoutError():
            return 504
        case _:
            return 500


def _field(location: Sequence[str | int]) -> str | None:
    """`messages[0].content` for ("body", "messages", 0, "content"); tags of unions are left out."""
    parts = [part for part in location[1:] if not str(part).startswith("<")]
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return name.removeprefix(".") or None
