"""A body is bounded before it is parsed: no megabyte of anything costs more than a moment."""

import gc
import json
import time

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st

from presafe.config import Access
from serve.api.body import count_values, parse
from serve.api.errors import ApiError

MEGABYTE = 1_000_000
MOST_CPU_SECONDS = 0.1
"""Ten times what they take; unbounded, most take from a half to ten seconds."""


def body(messages: object, **fields: object) -> bytes:
    return json.dumps({"model": "presafe", "messages": messages, **fields}).encode()


def user(content: object) -> list[dict[str, object]]:
    return [{"role": "user", "content": content}]


PIECE = {"type": "text", "text": "x"}
HOSTILE = {
    "text": body(user("x" * MEGABYTE)),
    "escapes": b'{"model": "presafe", "messages": [{"role": "user", "content": "%s"}]}' % (b"\\u0041" * 160_000),
    "messages": body(user("x") * 25_000),
    "messages that just pass": body(user("x") * 5_000),
    "parts": body(user([PIECE] * 30_000)),
    "parts that just pass": body(user([PIECE] * 5_000)),
    "wrong messages": body([0] * 300_000),
    "wrong parts": body(user([0] * 15_000)),
    "wrong stops": body(user("x"), stop=[0] * 15_000),
    "wrong metadata": body(user("x"), metadata={str(k): k for k in range(15_000)}),
    "unknown fields": body(user("x"), **{f"x{k}": k for k in range(15_000)}),
    "arrays": body([[]] * 300_000),
    "objects": b"[%s]" % b",".join([b'{"":0}'] * 140_000),
    "opened": b"[" * MEGABYTE,
    "opened objects": b'{"a":' * 200_000,
    "quotation marks": b'"' * MEGABYTE,
    "backslashes": b'{"a": "%s"}' % (b"\\\\" * 500_000),
    "escaped marks": b'"\\' * 500_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_megabyte_of_anything_is_read_in_a_moment(name):
    gc.collect()
    gc.freeze()  # as a replica does
    began = time.process_time()
    try:
        parse(HOSTILE[name], Access())
    except (ApiError, RequestValidationError) as error:
        told = error.message if isinstance(error, ApiError) else str(error.errors())
        assert len(told) < 2000
    finally:
        gc.unfreeze()
    assert time.process_time() - began < MOST_CPU_SECONDS


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='",[]{}\\:a\u20ac', max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


def values(tree: object) -> int:
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return 1 + sum(map(values, inner))


@given(JSON, st.booleans())
def test_no_value_is_missed(tree, ascii_only):
    text = json.dumps(tree, ensure_ascii=ascii_only).encode()
    opened = text.count(b"[]") + text.count(b"{}")  # an empty one counts as if it held something
    assert values(tree) <= count_values(text, 10_000) <= values(tree) + opened


def test_texts_are_no_values():
    assert count_values(body(user('[1, 2, "3", {}]' * 1000)), 10_000) == count_values(body(user("x")), 10_000)


def test_more_messages_or_parts_than_allowed_are_told_both_numbers():
    access = Access(max_messages=3, max_parts=4)
    parse(body(user("x") * 3), access)
    parse(body(user([PIECE] * 4)), access)
    for messages, told in ((user("x") * 4, "found 4 messages; at most 3"), (user([PIECE] * 5), "found 5 parts")):
        with pytest.raises(RequestValidationError) as caught:
            parse(body(messages), access)
        assert told in caught.value.errors()[0]["msg"]
