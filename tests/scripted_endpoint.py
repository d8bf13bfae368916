"""An OpenAI-compatible endpoint that does what each prompt says, and remembers what it was asked.

A prompt is a list of words; its first request gets the first word, its second request the second, and the last word
stays. A conversation that ends in an answer is judged as Llama Guard would: unsafe where that says `UNSAFE`. Run as
`python scripted_endpoint.py PORT`; GET /v1/log gives the requests so far, DELETE forgets them.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

KEY = "right"
RETRY_AFTER_S = 0.9
MEETING = 4
"""Requests that say `meet` wait for each other in fours."""
REFUSAL = "I am sorry, but no."
UNSAFE = "that is five"

api = FastAPI()
log: list[dict[str, Any]] = []
seen: Counter[str] = Counter()
open_now = Counter[str]()
meeting = asyncio.Barrier(MEETING)


@api.get("/v1/models")
async def models(request: Request) -> Response:
    wrong = request.headers.get("authorization") == "Bearer wrong"
    return error(401, "no such key") if wrong else JSONResponse({"object": "list", "data": []})


@api.get("/v1/log")
async def read_log() -> list[dict[str, Any]]:
    return log


@api.delete("/v1/log")
async def forget() -> None:
    log.clear()
    seen.clear()
    open_now.clear()  # a request that hangs stays open


@api.post("/v1/chat/completions")
async def complete(request: Request) -> Response:
    body = await request.json()
    prompt = body["messages"][0]["content"]
    words = prompt.split()
    word = words[min(seen[prompt], len(words) - 1)]
    seen[prompt] += 1
    open_now["requests"] += 1
    entry = {"body": body, "at": time.monotonic(), "open": open_now["requests"], "authorization": None, "sent": 0}
    entry["authorization"] = request.headers.get("authorization")
    log.append(entry)
    try:
        return await respond(word, body, entry)
    finally:
        open_now["requests"] -= 1


async def respond(word: str, body: dict[str, Any], entry: dict[str, Any]) -> Response:
    match word:
        case "429":
            return error(429, "slow down", {"retry-after": str(RETRY_AFTER_S)})
        case "quota":
            return error(429, "no money left", code="insufficient_quota")
        case "400" | "403" | "404" | "500":
            return error(int(word), f"this is {word}")
        case "filter":
            return error(400, "The prompt was stopped.", code="content_filter")
        case "refused_field":
            return error(400, "Unsupported value: 'temperature' is not supported with this model.")
        case "new_limit" if "max_tokens" in body:
            return error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        case "error200":
            return JSONResponse({"error": {"message": "upstream is busy", "code": 502}})
        case "nochoice":
            return JSONResponse({**COMMON, "choices": None})
        case "detail":
            return JSONResponse({"detail": "Internal Server Error"})
        case "html":
            return PlainTextResponse("<html>welcome</html>")
        case "garbage":
            return Response('{"choices": [', media_type="application/json")
        case "hang":
            await asyncio.sleep(600)
        case "drop":
            return StreamingResponse(dropped(), media_type="application/json")
        case "meet":
            await meeting.wait()
    message: dict[str, Any] = {"role": "assistant", "content": REFUSAL}
    if (judged := body["messages"][-1])["role"] == "assistant":
        message["content"] = "unsafe\nS1" if UNSAFE in judged["content"] else "safe"
    match word:
        case "parts":
            message["content"] = [{"type": "thinking", "thinking": "well"}, {"type": "text", "text": REFUSAL}]
        case "refusal":
            message = {"role": "assistant", "content": None, "refusal": REFUSAL}
        case "tags":
            message["content"] = f"<think>well</think>\n\n{REFUSAL}"
        case "half":
            message["content"] = f"well</think>{REFUSAL}"
        case "unclosed":
            message["content"] = "<think>well"
        case "reasoning" | "reasoning_content":
            message[word] = "well"
    ending = word if word in ("length", "content_filter") else "stop"
    if body.get("stream") and word != "unstreamed":
        return StreamingResponse(streamed(word, message, ending, entry), media_type="text/event-stream")
    choice = {"index": 0, "message": message, "finish_reason": ending}
    return JSONResponse({**COMMON, "object": "chat.completion", "choices": [choice], "usage": USAGE})


COMMON = {"id": "x", "created": 0, "model": "scripted"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 7, "total_tokens": 8}


async def dropped() -> AsyncIterator[str]:
    yield '{"choices": ['
    raise ConnectionError("the endpoint dies here")


async def streamed(word: str, message: dict[str, Any], ending: str, entry: dict[str, Any]) -> AsyncIterator[str]:
    """A word a chunk; `endless` goes on until the client has gone, `cut` dies behind the second chunk."""
    deltas = [
        (field, part + " ") for field in ("reasoning", "reasoning_content") for part in message.get(field, "").split()
    ]
    said = next(field for field in ("content", "refusal") if message.get(field))
    deltas += [(said, part + " ") for part in message[said].split()]
    if word == "endless":
        deltas = deltas + [("content", "tick ")] * 100_000
    for field, text in deltas:
        if word == "cut" and entry["sent"] == 2:
            raise ConnectionError("the endpoint dies here")
        entry["sent"] += 1
        yield chunk([{"index": 0, "delta": {field: text}, "finish_reason": None}])
        await asyncio.sleep(0.001)
    if word != "endingless":
        yield chunk([{"index": 0, "delta": {}, "finish_reason": ending}])
        yield chunk([], usage=USAGE)
    yield "data: [DONE]\n\n"


def chunk(choices: list[Any], **more: Any) -> str:
    return f"data: {json.dumps({**COMMON, 'object': 'chat.completion.chunk', 'choices': choices, **more})}\n\n"


def error(status: int, message: str, headers: dict[str, str] | None = None, code: str | None = None) -> Response:
    return JSONResponse({"error": {"message": message, "code": code}}, status, headers)


if __name__ == "__main__":
    uvicorn.run(api, host="127.0.0.1", port=int(sys.argv[1]), log_level="critical", timeout_graceful_shutdown=1)
