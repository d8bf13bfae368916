"""An endpoint that speaks the playground's contract and does what the first word of a prompt says. It serves the page.

The aligned model is at /aligned/, the base that it names for comparison at /base/.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from serve.playground import router

REFUSAL, BASE_ANSWER = "I am sorry, but no.", "The base just answers."
REASONING, ANSWER = "Two plus three: that is five.", "The answer is five."
MARKUP = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script><b>bold</b> &amp; *plain*"
)
RETRY_AFTER_S = 7
REASONING_TOKENS, COMPLETION_TOKENS = 312, 1412


class ScriptedEndpoint:
    """A real HTTP server on a thread of its own; a context manager."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        """Bodies of the chat requests so far, with `at` for who was asked and `authorization`."""
        self.key: str | None = None
        """What a client must show."""
        self.gate = "on"
        self.gate_path: str | None = None
        """What a gate decides where it is not what is done."""
        self.compare = True
        self.aligned = self.revealed = True
        """Whether it has a head, and whether clients see what that says."""
        self.examples: list[dict[str, str]] = []
        """Of the model's card."""
        self.release, self.gone = threading.Event(), threading.Event()
        """Lets `held` go on behind its decision; set when the client of an endless answer is gone."""
        app = FastAPI(openapi_url=None)
        for name in ("aligned", "base"):
            app.mount(f"/{name}", self._model(name))
        self._server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> "ScriptedEndpoint":
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            self._thread.join(0.02)
        return self

    def __exit__(self, *failure: object) -> None:
        self.release.set()
        self._server.force_exit = self._server.should_exit = True
        self._thread.join()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    @property
    def url(self) -> str:
        return f"{self.origin}/aligned/"

    def asked(self, at: str = "aligned") -> list[list[dict[str, str]]]:
        """The messages of each request to one of the models."""
        return [request["messages"] for request in self.requests if request["at"] == at]

    def _model(self, name: str) -> FastAPI:
        app = FastAPI(openapi_url=None)
        app.include_router(router)

        @app.get("/v1/models")
        async def models(request: Request) -> Response:
            return self._locked_out(request) or JSONResponse({"object": "list", "data": [self._card(name)]})

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Response:
            if locked_out := self._locked_out(request):
                return locked_out
            body = await request.json()
            self.requests.append({**body, "at": name, "authorization": request.headers.get("authorization")})
            return self._respond(name, body["messages"][-1]["content"].split()[0])

        return app

    def _card(self, name: str) -> dict[str, Any]:
        aligned = name == "aligned"
        presafe = {
            "gate": self.gate if aligned else "off",
            "threshold": 0.5 if aligned and self.aligned and self.revealed else None,
            "head": "linear" if aligned and self.aligned else None,
            "reveal_probability": self.revealed,
            "examples": self.examples if aligned else [],
            "compare_with": "../base" if aligned and self.compare else None,
        }
        model_id = "presafe-7b" if aligned else "base-7b"
        return {"id": model_id, "object": "model", "created": 0, "owned_by": "presafe", "presafe": presafe}

    def _locked_out(self, request: Request) -> Response | None:
        if self.key is None or request.headers.get("authorization") == f"Bearer {self.key}":
            return None
        return _error(401, "no valid API key in the Authorization header")

    def _respond(self, name: str, word: str) -> Response:
        first_time = sum(request["messages"][-1]["content"].startswith(word) for request in self.requests) == 1
        match word:
            case "busy" if first_time:
                return _error(503, "16 requests wait already", {"Retry-After": str(RETRY_AFTER_S)})
            case "setting":
                return _error(400, "found 100000; at most 8000", param="max_completion_tokens")
            case "large":
                return _error(413, "found a body of 2000 KB", code="request_too_large")
            case "moved" if first_time:
                return _error(404, "there is no model 'presafe-7b'", code="model_not_found")
            case "forbidden":
                return PlainTextResponse("Forbidden", 403)
            case "teapot":
                return PlainTextResponse("short and stout", 418)
            case "late":
                return _error(408, "the body did not come within 30 s", code="timeout")
            case "slow":
                return _error(504, "the completion took longer than 600 s", code="timeout")
            case "often":
                return _error(429, "600 requests a minute", {"Retry-After": str(RETRY_AFTER_S)})
            case "wrong":
                return _error(400, f"messages[0]: {MARKUP}")
            case "long":
                return _error(400, "found 9000 tokens; at most 8192 fit", code="context_length_exceeded")
            case "proxy":
                return PlainTextResponse("Internal Server Error", 500)
        events = self._base_events(word) if name == "base" else self._events(word)
        return StreamingResponse(events, media_type="text/event-stream")

    async def _base_events(self, word: str) -> AsyncIterator[str]:
        if word == "apart":
            yield _event({"error": {"message": "the base failed", "type": "server_error", "param": None, "code": None}})
            return
        yield _decision("think", None, "off")
        for event in (*_words("reasoning_content", "Sure."), *_words("content", BASE_ANSWER), *_end()):
            yield event

    async def _events(self, word: str) -> AsyncIterator[str]:
        path = {"refuse": "refuse", "nothing": "refuse", "closed": "answer"}.get(word, "think")
        probability = {"refuse": 0.931, "nothing": None}.get(word, 0.0712) if self.aligned and self.revealed else None
        decided: Any = {"off": None}.get(self.gate, self.gate_path or ("refuse" if path == "refuse" else "think"))
        yield _decision(path, probability, self.gate, decided)
        match word:
            case "refuse":
                rest = [*_words("content", REFUSAL), *_end(reasoning=0, completion=7)]
            case "nothing":
                rest = [*_words("content", REFUSAL), *_end(reasoning=0, completion=0)]
            case "closed":
                rest = [*_words("content", ANSWER), *_end(reasoning=0, completion=9)]
            case "empty":
                rest = _end(reasoning=0, completion=1)
            case "markup":
                rest = [*_words("reasoning_content", MARKUP), *_words("content", MARKUP), *_end()]
            case "cut":
                rest = _words("content", "Half an")
            case "fails":
                error = {"message": "out of memory", "type": "server_error", "param": None, "code": None}
                rest = [*_words("content", "Half an"), _event({"error": error})]
            case "limit":
                rest = [*_words("reasoning_content", REASONING), *_end("length")]
            case "story":
                rest = [*_words("reasoning_content", REASONING * 60), *_words("content", ANSWER * 60), *_end()]
            case _:
                rest = [*_words("reasoning_content", REASONING), *_words("content", ANSWER), *_end()]
        if word == "held":
            await asyncio.to_thread(self.release.wait)
        if word in ("endless", "musing"):
            async for event in self._endless("content" if word == "endless" else "reasoning_content"):
                yield event
        for event in rest:
            yield event

    async def _endless(self, field: str) -> AsyncIterator[str]:
        """Until the client has gone."""
        try:
            while True:
                yield _event(_chunk({field: "tick "}))
                await asyncio.sleep(0.005)
        finally:
            self.gone.set()


def _decision(path: str, probability: float | None, gate: str, gate_path: str | None = None) -> str:
    presafe = {"path": path, "refuse_probability": probability, "gate": gate, "gate_path": gate_path}
    presafe["threshold"] = None if probability is None else 0.5
    return _event({**_chunk({"role": "assistant", "content": ""}), "presafe": presafe})


def _words(field: str, text: str) -> list[str]:
    return [_event(_chunk({field: part})) for part in text.replace(" ", " \0").split("\0")]


def _end(reason: str = "stop", *, reasoning: int = REASONING_TOKENS, completion: int = COMPLETION_TOKENS) -> list[str]:
    details = {"reasoning_tokens": reasoning}
    usage = {"prompt_tokens": 5, "completion_tokens": completion, "total_tokens": 5 + completion}
    last = {**_chunk({}), "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    counted = {**_chunk({}), "choices": [], "usage": {**usage, "completion_tokens_details": details}}
    return [_event(last), _event(counted), "data: [DONE]\n\n"]


def _chunk(delta: dict[str, str]) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta, "finish_reason": None}]
    return {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "scripted", "choices": choices}


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


def _error(
    status: int,
    message: str,
    headers: dict[str, str] | None = None,
    code: str | None = None,
    param: str | None = None,
) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return JSONResponse({"error": error}, status, headers)
