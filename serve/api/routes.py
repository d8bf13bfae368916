"""What a replica answers at each of its addresses."""

import asyncio
import time
from contextlib import AsyncExitStack, aclosing
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from ray import serve

from presafe.engines.streaming import EngineError
from presafe.telemetry.tracing import request_span
from serve.api.door import BODY, Door
from serve.api.errors import HANDLERS, LONGEST_PARAM, ApiError, shortened, status_of
from serve.api.observe import Observer, Watch
from serve.api.openapi import describe_body
from serve.api.protocol import ChatRequest
from serve.api.replica import start
from serve.api.reply import Reply
from serve.api.streaming import EventStream, server_sent_events
from serve.arguments import ServeArgs
from serve.operations.exposition import CONTENT_TYPE, exposition
from serve.playground import router as playground


class Routes:
    """Of one replica, in its event loop."""

    def __init__(self, settings: ServeArgs) -> None:
        """Start the engine. Raises UserError for a model or a setting that cannot be served."""
        scaling = settings.autoscaling
        self._settings, self._created = settings, int(time.time())
        self._replica = start(settings.model, settings)
        self._engine = self._replica.chat.engine
        self._observer = Observer(settings, self._replica.served, serve.get_replica_context().replica_tag)
        shares = settings.workers.num_workers if scaling is None else scaling.max_replicas
        self._door = Door(settings.access, shares, self._observer.metrics.prepared)

    def asgi_app(self) -> FastAPI:
        """The application of these addresses."""
        # A redirect would lead to whatever Host the client named.
        api = FastAPI(
            title="PreSafe", exception_handlers=HANDLERS, docs_url=None, redoc_url=None, redirect_slashes=False
        )
        api.include_router(playground)
        api.add_api_route("/health", self.health, methods=["GET"])
        api.add_api_route("/ready", self.ready, methods=["GET"])
        api.add_api_route("/metrics", self.metrics, methods=["GET"])
        api.add_api_route("/v1/models", self.models, methods=["GET"])
        api.add_api_route("/v1/models/{name:path}", self.model, methods=["GET"])
        api.add_api_route("/v1/chat/completions", self.chat, methods=["POST"], openapi_extra=BODY)
        describe_body(api, ChatRequest)
        return api

    def check_health(self) -> None:
        """Note how the replica is. Raises EngineError where its engine is dead."""
        self._door.look()
        settings = self._settings
        at_once = settings.vllm.max_num_seqs if settings.engine == "vllm" else settings.batching.max_requests_per_batch
        self._observer.state(self._engine.load, at_once)
        self._engine.check()

    def close(self) -> None:
        """End the engine, and write what is left of the log."""
        self._door.close()
        self._engine.close()
        self._observer.close()

    async def health(self) -> dict[str, str | int]:
        """That this replica is up, and what it does."""
        return {
            "status": "ok",
            "ongoing": self._door.ongoing,
            "generated_tokens": self._engine.load.generated_tokens,
        }

    async def ready(self) -> Response:
        """Whether this replica takes requests: 200, or 503 where its engine is dead or it is full."""
        try:
            self._engine.check()
            self._door.check_room()
        except (EngineError, ApiError) as error:
            return JSONResponse({"status": "not ready", "reason": str(error)}, 503)
        return JSONResponse({"status": "ready"})

    async def metrics(self) -> Response:
        """Prometheus metrics of all replicas."""
        return Response(await exposition(), media_type=CONTENT_TYPE)

    async def models(self, request: Request) -> dict[str, Any]:
        """The one model."""
        self._door.identify(request.headers)
        return {"object": "list", "data": [self._model()]}

    async def model(self, request: Request, name: str) -> dict[str, Any]:
        """The one model, by its name."""
        self._door.identify(request.headers)
        self._check_model(name)
        return self._model()

    def _model(self) -> dict[str, Any]:
        served = self._replica.served
        extra = {
            "max_model_len": self._replica.max_model_len,
            "presafe": {
                "gate": served.gate,
                "threshold": served.shown_threshold,
                "head": self._replica.head,
                "compare_with": self._settings.compare_with,
                "reveal_probability": served.reveal,
                "examples": self._replica.examples,
            },
        }
        return {"id": served.model, "created": self._created, "object": "model", "owned_by": "presafe", **extra}

    def _check_model(self, name: str) -> None:
        served = self._replica.served.model
        if name != served:
            message = f"there is no model {shortened(name, LONGEST_PARAM)!r}; this endpoint serves {served!r}"
            raise ApiError(404, message, param="model", code="model_not_found")

    async def chat(self, request: Request) -> Response:
        """Refuse, or think and answer."""
        try:
            response = await self._chat(request)
        except (Exception, asyncio.CancelledError) as error:
            self._observer.metrics.request(status_of(error))
            raise
        self._observer.metrics.request(response.status_code)
        return response

    async def _chat(self, request: Request) -> Response:
        began = time.monotonic()
        async with AsyncExitStack() as held:
            span = held.enter_context(request_span(request.headers.get("traceparent")))
            key = self._door.identify(request.headers)
            limits = held.enter_context(self._door.admit(key))
            chat, prompt = await self._door.read(request, self._prompt)
            held.enter_context(self._door.place())
            room = self._replica.room(chat, len(prompt))
            n, reply = chat.n or 1, Reply(self._replica.served, len(prompt))
            watch = Watch(self._observer, reply.id, None if key is None else key.id, began, span)
            events = self._replica.chat.answers(prompt, chat.sampling(room), n, room)
            answers = await held.enter_async_context(aclosing(watch.over(events, chat, len(prompt), n)))
            first = await anext(answers)
            headers = {**reply.headers(first[1]), **limits}
            if chat.stream:
                chunks = server_sent_events(first, answers, reply, include_usage=chat.include_usage)
                return EventStream(chunks, headers, held.pop_all())
            body = reply.completion([first, *[each async for each in answers]])
            return Response(body, media_type="application/json", headers=headers)

    def _prompt(self, chat: ChatRequest) -> list[int]:
        """Runs beside the event loop."""
        self._check_model(chat.model)
        return self._replica.prompt(chat)
