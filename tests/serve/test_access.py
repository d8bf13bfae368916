"""Keys, limits and the decision log on the real endpoint."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from serve.operations.key_command import issue_key, revoke_key
from tiny_reasoner import ENDLESS, HARMFUL, user

DEADLINE_S = 30.0


def client(served: Any, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.keyed_url}/v1", api_key=key, max_retries=0, timeout=60)


def ask(served: Any, key: str, prompt: str = HARMFUL, **options: Any) -> Any:
    chat = client(served, key).chat.completions
    return chat.with_raw_response.create(model="presafe", messages=user(prompt), **options)


def logged(served: Any, request_id: str) -> dict[str, Any]:
    """The line of the decision log; it is written by a thread of its own."""
    end = time.monotonic() + DEADLINE_S
    while True:
        for file in Path(served.audit_folder).glob("*.jsonl"):
            for line in file.read_text().splitlines():
                if json.loads(line)["request_id"] == request_id:
                    return dict(json.loads(line))
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer wrong", "Basic wrong", "wrong"])
def test_without_a_key_nobody_enters(served: Any, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    for method, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models")):
        reply = httpx.request(method, f"{served.keyed_url}{path}", headers=headers)
        assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")
        assert reply.headers["WWW-Authenticate"] == "Bearer"


def test_keys_come_and_go_without_a_restart(served: Any) -> None:
    key = issue_key(served.key_file, "passing")
    served.wait_until_known(key)
    assert ask(served, key).parse().presafe["path"] == "refuse"
    revoke_key(served.key_file, "passing")
    end = time.monotonic() + DEADLINE_S
    while _enters(served, key):
        assert time.monotonic() < end


def _enters(served: Any, key: str) -> bool:
    try:
        ask(served, key)
    except openai.AuthenticationError:
        return False
    return True


def test_a_key_has_its_limit(served: Any) -> None:
    key = issue_key(served.key_file, "limited", requests_per_minute=2)
    served.wait_until_known(key)
    assert [ask(served, key).headers["x-ratelimit-remaining-requests"] for _ in range(2)] == ["1", "0"]
    with pytest.raises(openai.RateLimitError) as caught:
        ask(served, key)
    assert caught.value.code == "rate_limit_exceeded"
    assert 0 < int(caught.value.response.headers["Retry-After"]) <= 60


def test_every_decision_is_logged_without_its_text(served: Any) -> None:
    key = issue_key(served.key_file, "logged")
    served.wait_until_known(key)
    reply = ask(served, key, ENDLESS, max_tokens=4).parse()
    line = logged(served, reply.id)
    assert (line["key_id"], line["gate"], line["path"], line["gate_path"]) == ("logged", "shadow", "think", "refuse")
    assert line["refuse_probability"] == reply.presafe["refuse_probability"]
    assert (line["completion_tokens"], line["finish_reason"]) == (4, "length")
    assert line["messages"] is None
    assert ENDLESS not in json.dumps(line)
    assert 0 < line["seconds_to_decision"] <= line["seconds"]


def test_a_completion_that_its_client_left_is_logged_without_an_end(served: Any) -> None:
    key = issue_key(served.key_file, "leaving")
    served.wait_until_known(key)
    stream = client(served, key).chat.completions.create(model="presafe", messages=user(ENDLESS), stream=True)
    chunk = next(iter(stream))
    stream.close()
    assert logged(served, chunk.id)["finish_reason"] is None


@pytest.mark.parametrize("name", ["X-Request-Id", "Authorization", "serve_multiplexed_model_id", "x-session-id"])
def test_a_header_that_is_no_text_is_dropped(served: Any, name: str) -> None:
    reply = httpx.get(f"{served.url}/health", headers=[(name.encode(), b"\xff")])
    assert reply.status_code == 200
    assert httpx.get(f"{served.keyed_url}/v1/models", headers=[(name.encode(), b"\xff")]).status_code == 401
