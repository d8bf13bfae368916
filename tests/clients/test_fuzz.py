"""Nothing that a client sends ends the engine, or makes the server fail; `FUZZ=10000 make test-clients` asks more.

A third of the requests are schemathesis's, by its command line on the OpenAPI document; the others are our own.
"""

import base64
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from clients.endpoint import Endpoint, user

pytest.importorskip("schemathesis", reason="schemathesis is not installed: make test-clients")

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from clients.hostile import Hostile, requests

FUZZ = int(os.environ.get("FUZZ", "500"))
AT_ONCE = 3
"""Requests: with 8 completions each they stay below the limit, so that the replica is always ready."""
KNOWN = ["{benign}", "{harmful}", "{endless}", *[f"Prompt {i} about {{benign}}" for i in range(17)]]


def problem(method: str, status: int, headers: dict[str, str], text: str) -> str | None:
    """What is wrong with a reply: a failure of the server, a redirect, or an error in another shape than OpenAI's."""
    if status // 100 == 3:
        return f"{status} to {headers.get('location')}"
    if status < 400:
        streamed = headers.get("content-type", "").startswith("text/event-stream")
        sound = not streamed or (text.endswith("data: [DONE]\n\n") and 'data: {"error"' not in text)
        return None if sound else f"a stream failed: {text[-500:]}"
    if status >= 500 and status not in (503, 504):
        return f"{status}: {text[:300]}"
    if status == 503 and "retry-after" not in headers:
        return f"503 without Retry-After: {text[:300]}"
    if method == "HEAD":
        return None
    try:
        error = json.loads(text)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error["message"], str)
        assert isinstance(error["type"], str)
        assert "Traceback" not in error["message"]
    except (ValueError, KeyError, TypeError, AssertionError):
        return f"{status} is no error in OpenAI's shape: {text[:300]}"
    return None


@contextmanager
def watched(endpoint: Endpoint) -> Iterator[None]:
    """Hold that the one replica is ready all the time, and stays the one that it was."""
    over, wrong, asked = threading.Event(), [], 0
    began, last = endpoint.started(), -1

    def watch() -> None:
        nonlocal last, asked
        while not over.wait(0.25):
            asked += 1
            ready, tokens = httpx.get(f"{endpoint.url}/ready", timeout=30), endpoint.health()["generated_tokens"]
            if ready.status_code != 200 or tokens < last:
                wrong.append((ready.status_code, ready.text, last, tokens))
            last = tokens

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield
        finally:
            over.set()
        watching.result()
    assert asked
    assert not wrong
    assert endpoint.started() == began, "the replica was replaced"


def decisions(endpoint: Endpoint) -> list[tuple[str, float, str]]:
    """Path, probability and text of prompts that are known."""
    replies = [
        endpoint.client().chat.completions.create(
            model="presafe", messages=user(prompt.format(**vars(endpoint.facts))), temperature=0, max_tokens=20
        )
        for prompt in KNOWN
    ]
    return [(r.presafe["path"], r.presafe["refuse_probability"], r.choices[0].message.content) for r in replies]


def test_no_request_ends_the_engine(fuzzed: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = decisions(fuzzed)
    assert {"refuse", "think"} <= {path for path, _, _ in before}
    counts: Counter[str] = Counter()
    with watched(fuzzed):
        problems = by_schemathesis(fuzzed, tmp_path, FUZZ // 3, counts)
        problems += by_hand(fuzzed, max(FUZZ - counts.total(), FUZZ // 3), counts)
    after = decisions(fuzzed)
    with capsys.disabled():
        print(f"\n{counts.total()} requests: {dict(sorted(counts.items()))}")
    assert not problems, "\n".join(problems[:20])
    assert counts["200"]
    assert [(path, text) for path, _, text in after] == [(path, text) for path, _, text in before]
    assert [p for _, p, _ in after] == pytest.approx([p for _, p, _ in before], abs=1e-5)


def by_schemathesis(endpoint: Endpoint, folder: Path, examples: int, counts: Counter[str]) -> list[str]:
    """Ask `examples` requests and its boundary cases of each operation; the problems."""
    document = httpx.get(f"{endpoint.url}/openapi.json").json()
    # A model that there is: else all data that the document allows would end in the same 404.
    document["components"]["schemas"]["ChatRequest"]["properties"]["model"]["const"] = "presafe"
    (folder / "openapi.json").write_text(json.dumps(document))
    command = [sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--url", endpoint.url]
    command += ["--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing", "--mode", "all"]
    command += ["--max-examples", str(examples), "--workers", "2", "--continue-on-failure", "--request-timeout", "60"]
    command += [
        "--suppress-health-check",
        "all",
        "--warnings",
        "off",
        "--report",
        "har",
        "--report-har-path",
        "all.har",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout[-3000:] + done.stderr[-3000:]
    problems = [] if done.returncode == 0 else [done.stdout[-3000:]]
    for entry in json.loads((folder / "all.har").read_text())["log"]["entries"]:
        request, response = entry["request"], entry["response"]
        headers = {header["name"].lower(): header["value"] for header in response["headers"]}
        wrong = problem(request["method"], response["status"], headers, _text(response["content"]))
        counts[str(response["status"])] += 1
        if wrong:
            problems.append(f"{request['method']} {request['url'][:200]} {request.get('postData')}: {wrong}")
    return problems


def by_hand(endpoint: Endpoint, number: int, counts: Counter[str]) -> list[str]:
    """Ask so many requests of our own, some at once; the problems."""
    problems: list[str] = []
    with ThreadPoolExecutor(AT_ONCE) as pool, httpx.Client(base_url=endpoint.url, timeout=120) as client:

        @settings(
            max_examples=-(-number // AT_ONCE),
            deadline=None,
            database=None,
            phases=[Phase.generate],  # what one request does may hang on those before it: nothing to shrink
            suppress_health_check=list(HealthCheck),
        )
        @given(st.tuples(*[requests(endpoint.facts)] * AT_ONCE))
        def ask_all(together: tuple[Hostile, ...]) -> None:
            for request, (status, wrong) in zip(together, pool.map(lambda r: ask(client, r), together), strict=True):
                counts[status] += 1
                if wrong:
                    problems.append(f"{wrong} after {request}"[:2000])

        ask_all()
    return problems


def ask(client: httpx.Client, request: Hostile) -> tuple[str, str | None]:
    """Send it; its status, and the problem with it."""
    headers = {name: value.encode("latin-1") for name, value in request.headers.items()}
    with client.stream(request.method, request.path, content=request.content, headers=headers) as reply:
        if request.cut and reply.status_code == 200:
            next(reply.iter_raw(1), b"")
            return "200, cut", None
        text = reply.read().decode(errors="replace")
    return str(reply.status_code), problem(request.method, reply.status_code, dict(reply.headers), text)


def _text(content: dict[str, Any]) -> str:
    text = content.get("text", "")
    return base64.b64decode(text).decode(errors="replace") if content.get("encoding") == "base64" else text
