"""Requests that nobody in good faith would send, and some that one would; as hypothesis strategies."""

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from clients.endpoint import FUZZED_NEW_TOKENS, Facts

CHAT = "/v1/chat/completions"
JSON = {"Content-Type": "application/json"}
PIECES = [
    *["<think>", "</think>", "<think>\n\n</think>\n\n", "<th<think>ink>", "&lt;/think&gt;", "\uff1c/think\uff1e"],
    *[
        "<|im_start|>assistant\n",
        "<|im_end|>",
        "<|endoftext|>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
        "<th\u200bink>",
    ],
    *["{{ messages }}", "{% raise %}", "%s%n", "\x00", "\x1b[2J", "\ufeff", "\u202e", "\u2028", "\ufffd", "\U0010ffff"],
    *["e\u0301\u0301\u0301", "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\ufdfa", "\u0130", "\n\r\n", "\\", '"'],
]
LONGEST_STOP = 256
"""Characters."""
LIMITS = [0, -1, 1, 2, FUZZED_NEW_TOKENS, FUZZED_NEW_TOKENS + 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**400]
BROKEN = [
    *[b"", b"null", b"[]", b'"', b"{", b"\xff\xfe", b"\xef\xbb\xbf{}", b"{}" * 2, b"[" * 20_000, b'{"a":' * 5_000],
    *[b'{"model": "presafe", "model": 1, "messages": []}', b'{"\\ud800": 1}', b'{"model": "\\udfff"}', b"9" * 5_000],
]
NUMBERS = [b"NaN", b"-Infinity", b"1e400", b"-0.0", b"1e-400", b"9" * 5_000, b"0x10", b"01"]
PATHS = ["/", "/health", "/ready", "/metrics", "/v1/models", "/openapi.json", CHAT, f"{CHAT}/", "/v1/completions"]
PATHS += ["/v1/models/presafe", "/docs", "/playground.js", "/../etc", "/%00", "/%ff", "/v1//models", "/" + "a" * 3_000]


@dataclass(frozen=True)
class Hostile:
    """A request; `cut` is whether its client leaves after the first bytes of the reply."""

    method: str
    path: str
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


def requests(facts: Facts) -> st.SearchStrategy[Hostile]:
    """Mostly chat requests, which are the ones that reach the model."""
    chats = _bodies(facts)
    posted = st.builds(
        lambda body, cut: Hostile("POST", CHAT, _json(body), JSON, cut), chats, st.sampled_from([0, 0, 1])
    )
    damaged = st.builds(_damaged, chats, st.integers(0, 400), st.binary(max_size=4))
    numbers = st.builds(_with_number, chats, _names, st.sampled_from(NUMBERS))
    broken = st.sampled_from(BROKEN).map(lambda content: Hostile("POST", CHAT, content, JSON))
    return _weighted([posted] * 12, [damaged, numbers, broken, _elsewhere])


_names = st.sampled_from(["temperature", "top_p", "seed", "n", "max_tokens", "messages", "stop", "frequency_penalty"])
_anything: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.sampled_from(LIMITS), st.floats(allow_nan=False, width=32), st.text(max_size=8)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=4,
)


def _bodies(facts: Facts) -> st.SearchStrategy[dict[str, Any]]:
    """Half of them are lawful, so that they reach the model; the others are lawful but for a field or two, or not."""
    text = _texts(facts)
    lawful = _lawful(text)
    edges: dict[str, st.SearchStrategy[Any]] = {
        **dict.fromkeys([*_OPTIONS, *_FOREIGN], _anything),
        **dict.fromkeys(["max_tokens", "max_completion_tokens", "n", "seed", "temperature"], st.sampled_from(LIMITS)),
        "stop": st.one_of(st.lists(text, max_size=6), st.just(""), _anything),
        "messages": st.lists(_messages(text), max_size=4),
    }
    changes = st.sampled_from(sorted(edges)).flatmap(lambda name: st.tuples(st.just(name), edges[name]))
    changed = st.builds(
        lambda body, change: {**body, **dict(change)}, lawful, st.lists(changes, min_size=1, max_size=2)
    )
    unlawful = st.fixed_dictionaries({}, optional={"model": _anything, **edges})
    return _weighted([lawful] * 3, [changed] * 2, [unlawful])


_OPTIONS = ["stream", "top_p", "stream_options", "response_format", "logprobs", "metadata", "user", "model"]
_FOREIGN = ["logit_bias", "chat_template_kwargs", "vllm_xargs", "tools", "continue_final_message", "presafe", "\ud800"]
_FOREIGN += ["tool_choice", "store", "top_k", "reasoning_effort", "top_logprobs", "modalities"]


def _texts(facts: Facts) -> st.SearchStrategy[str]:
    known = st.sampled_from([facts.benign, facts.harmful, facts.endless])
    pieces = st.lists(st.one_of(known, st.sampled_from(PIECES), st.text(max_size=10)), max_size=5).map("".join)
    words = st.sampled_from(["a", "word ", "\u20ac", "<think>"])
    long = st.builds(lambda word, times: word * times, words, st.sampled_from([20, 90, 120, 150, 160, 170, 900]))
    return _weighted([known], [pieces] * 3, [long])


def _lawful(text: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    filled = text.map(lambda some: some if some.strip() else "x")
    stop = filled.map(lambda some: some[:LONGEST_STOP])
    parts = st.lists(st.builds(lambda some: {"type": "text", "text": some}, filled), min_size=1, max_size=2)
    content = _weighted([filled] * 2, [parts])
    roles = st.sampled_from(["user", "assistant", "system", "developer"])
    message = st.builds(lambda role, some: {"role": role, "content": some}, roles, content)
    asked = st.builds(lambda some: {"role": "user", "content": some}, content)
    history = _weighted([st.just([])] * 2, [st.lists(message, max_size=2)])
    messages = st.builds(lambda before, last: [*before, last], history, asked)
    options = st.fixed_dictionaries(
        {"model": st.just("presafe"), "messages": messages},
        optional={
            "max_tokens": st.integers(1, FUZZED_NEW_TOKENS),
            "temperature": st.one_of(st.floats(0, 2), st.sampled_from([0, 2, 5e-324, 1e-300, 1e-30])),
            "top_p": st.one_of(st.floats(0, 1), st.sampled_from([0, 1, 5e-324])),
            "seed": st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([-(2**63), 2**63 - 1])),
            "n": st.sampled_from([1, 2, 3, 8]),
            "stop": st.one_of(stop, st.lists(stop, max_size=4)),
            "user": text,
        },
    )
    streamed = st.sampled_from([{}, {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}])
    return st.builds(lambda body, stream: {**body, **stream}, options, streamed)


def _messages(text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    part = st.fixed_dictionaries(
        {"type": _mostly("text", "refusal", "image_url")},
        optional={"text": text, "refusal": text, "cache_control": _anything},
    )
    parts = st.lists(part, max_size=3)
    return st.one_of(
        _anything,
        st.fixed_dictionaries(
            {"role": _mostly("user", "assistant", "tool", "<think>"), "content": st.one_of(text, parts, _anything)},
            optional={
                "reasoning_content": st.one_of(st.none(), text),
                "refusal": st.one_of(st.none(), text),
                "name": text,
                "tool_calls": _anything,
            },
        ),
    )


def _weighted(*strategies: list[st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """`one_of` counts a strategy once, however often it is given."""
    return st.sampled_from([one for some in strategies for one in some]).flatmap(lambda one: one)


def _mostly(*values: str) -> st.SearchStrategy[Any]:
    """One of these, and now and then anything."""
    return st.integers(0, 19).flatmap(lambda draw: _anything if draw == 0 else st.sampled_from(values))


def _json(body: Any) -> bytes:
    return json.dumps(body).encode()


def _damaged(body: Any, at: int, wrong: bytes) -> Hostile:
    """JSON that breaks off, or goes on with some other bytes."""
    content = _json(body)
    return Hostile("POST", CHAT, content[:at] + wrong + (content[at:] if wrong else b""), JSON)


def _with_number(body: dict[str, Any], name: str, number: bytes) -> Hostile:
    content = _json({**body, name: "here"})
    return Hostile("POST", CHAT, content.replace(b'"here"', number), JSON)


_elsewhere = st.builds(
    Hostile,
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]),
    st.builds(
        lambda path, query: path + query,
        st.sampled_from(PATHS),
        st.sampled_from(["", "?", "?a=%00&a[]=1", "?" + "q" * 2_000]),
    ),
    st.one_of(st.binary(max_size=20), st.sampled_from([b"", b" " * 70_000])),
    st.dictionaries(
        st.sampled_from(
            ["Content-Type", "Accept", "Accept-Encoding", "Authorization", "Origin", "X-Request-Id", "Range"]
        ),
        st.sampled_from(
            ["", "application/json", "text/plain; charset=\xff", "Bearer " + "x" * 3_000, "Basic Og==", "bytes=9-1"]
        ),
        max_size=3,
    ),
)
