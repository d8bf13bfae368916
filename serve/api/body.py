"""From the bytes of a body to a request: bounded before it is parsed, and parsed once."""

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from presafe.config import Access
from serve.api.errors import ApiError
from serve.api.protocol import ChatRequest

VALUES_A_MESSAGE = 16
"""JSON values of one message with all the fields that clients send along."""


def parse(body: bytes, access: Access) -> ChatRequest:
    """The request that a body is. Raises ApiError where it has too much, RequestValidationError where it is none.

    What a megabyte of JSON costs is not its bytes but its values: 300,000 small ones take seconds, and nobody can
    interrupt a parser. So they are counted first, which takes milliseconds whatever the body.
    """
    most = access.max_messages * VALUES_A_MESSAGE
    found = count_values(body, most)
    if found > most:
        message = f"found a body of {found} or more JSON values; at most {most} for {access.max_messages} messages"
        raise ApiError(400, f"{message}; shorten the conversation", code="invalid_value")
    try:
        chat = ChatRequest.model_validate_json(body, context=access)
    except ValidationError as error:
        details = [{**e, "loc": ("body", *e["loc"])} for e in error.errors(include_url=False, include_input=False)]
        raise RequestValidationError(details) from error
    if (chat.n or 1) > access.max_choices:
        raise ApiError(400, f"n: at most {access.max_choices}", param="n", code="invalid_value")
    return chat


def count_values(body: bytes, most: int) -> int:
    """How many values a JSON text has, or some number above `most` where it has more. Of no JSON, any number.

    By bytes' own searches alone, which run at memory's speed: every value stands behind a bracket or a comma that is
    outside of a string, or is the whole text.
    """
    plain = body.replace(rb"\\", b"").replace(rb"\"", b"")  # now every quotation mark begins or ends a string
    marks = plain.count(b'"')
    if marks > 4 * most:  # two strings a value, a name and itself
        return marks // 4
    outside = b"".join(plain.split(b'"')[::2])
    return 1 + sum(outside.count(mark) for mark in (b"[", b"{", b","))
