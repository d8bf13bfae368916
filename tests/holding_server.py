"""An endpoint that speaks chat completions, counts what it is asked, and holds its replies when told to."""

import asyncio
import threading
from collections import Counter
from typing import Any

import uvicorn
from fastapi import FastAPI


class HoldingServer:
    """Answers every request alike; from the `hold_at`-th request on, replies wait until `release`."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self._hold_at: int | None = None
        self.held = threading.Event()
        self._open: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        app = FastAPI()
        app.get("/v1/models")(self._models)
        app.post("/v1/chat/completions")(self._complete)
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> "HoldingServer":
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            self._thread.join(0.02)
        return self

    def __exit__(self, *failure: object) -> None:
        self.release()
        self._server.should_exit = True
        self._thread.join()

    @property
    def url(self) -> str:
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/v1"

    def hold_at(self, different: int) -> None:
        """Hold the replies once so many different prompts were asked."""
        self.held.clear()
        self._hold_at = different

    def release(self) -> None:
        self._hold_at = None
        if self._loop is not None and self._open is not None:
            self._loop.call_soon_threadsafe(self._open.set)
            self._open = None

    async def _models(self) -> dict[str, Any]:
        return {"object": "list", "data": [{"id": "counting", "object": "model", "created": 0, "owned_by": "test"}]}

    async def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        self._loop = asyncio.get_running_loop()
        self.asked[body["messages"][-1]["content"]] += 1
        if self._hold_at is not None and len(self.asked) >= self._hold_at:
            self._open = self._open or asyncio.Event()
            self.held.set()
            await self._open.wait()
        message = {"role": "assistant", "content": "sure , here it is ."}
        return {
            "id": "chatcmpl-0",
            "object": "chat.completion",
            "created": 0,
            "model": "counting",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11},
        }
