"""The Ray Serve application. Run it with `presafe serve MODEL`, or `serve deploy serve/config.yaml` on a cluster."""

import asyncio
import gc
import time
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from openai.types import Model
from ray import serve

from presafe import storage
from presafe.config import Endpoint as EndpointSettings
from serve.checks import servable_card
from serve.door import BODY, Door
from serve.engine import EngineError
from serve.errors import HANDLERS, LONGEST_PARAM, ApiError, shortened, status_of
from serve.exposition import CONTENT_TYPE, exposition
from serve.observe import Observer, Watch
from serve.openapi import describe
from serve.playground import router as playground
from serve.protocol import ChatRequest
from serve.reply import Reply
from serve.streaming import EventStream, server_sent_events

if TYPE_CHECKING:
    from serve.replica import Replica

TURNED_AWAY = 256
"""Requests that a replica holds beside those that generate: to be told 503, or how the replica is."""


class ServeArgs(EndpointSettings):
    """Arguments of the application."""

    model: str
    """Exported model: the model/ folder of a run, by path or URL that every node can reach."""


def build(args: dict[str, Any]) -> serve.Application:
    """The application, of the fields of ServeArgs. Raises ValueError where they, or the model's card, are wrong."""
    settings = ServeArgs.model_validate(args)
    if settings.unaligned:
        from presafe.engines.exported import check_model  # imports torch, which who deploys does not need otherwise

        check_model(settings.model)
    else:
        servable_card(settings.model, settings)
    settings = settings.model_copy(update={"model": storage.absolute(settings.model)})
    workers, autoscaling = settings.workers, settings.autoscaling
    replicas = {"num_replicas": workers.num_workers} if autoscaling is None else {}
    deployment: Any = Endpoint  # a type checker takes it for the class in front of its decorators
    return deployment.options(
        **replicas,
        autoscaling_config=None if autoscaling is None else autoscaling.model_dump(),
        max_ongoing_requests=settings.access.max_ongoing_requests + TURNED_AWAY,
        graceful_shutdown_timeout_s=settings.drain_s,
        ray_actor_options={"num_cpus": workers.num_cpus, "num_gpus": workers.num_gpus},
    ).bind(settings)


# A redirect would lead to whatever Host the client named.
api = FastAPI(title="PreSafe", exception_handlers=HANDLERS, docs_url=None, redoc_url=None, redirect_slashes=False)
api.include_router(playground)
describe(api, ChatRequest)


@serve.deployment
@serve.ingress(api)
class Endpoint:
    """One replica: a model on its engine, and OpenAI's protocol in front of it.

    Ray Serve pickles this class by value, here and now: it sees only what stands above it in this file.
    """

    def __init__(self, settings: ServeArgs) -> None:
        from serve.replica import start  # imports torch, which who deploys does not need

        context = serve.get_replica_context()
        scaling = settings.autoscaling
        self._settings, self._created = settings, int(time.time())
        self._replica: Replica = start(settings.model, settings)
        self._engine = self._replica.chat.engine
        self._observer = Observer(settings, self._replica.served, context.replica_tag)
        shares = settings.workers.num_workers if scaling is None else scaling.max_replicas
        self._door = Door(settings.access, shares, self._observer.metrics.prepared)
        # What is loaded now stays: a collection that looked through all of it would hold up every request for 0.1 s.
        gc.collect()
        gc.freeze()

    def check_health(self) -> None:
        """Ray Serve replaces a replica where this raises."""
        self._door.look()
        settings = self._settings
        at_once = settings.vllm.max_num_seqs if settings.engine == "vllm" else settings.batching.max_requests_per_batch
        self._observer.state(self._engine.load, at_once)
        self._engine.check()

    async def __del__(self) -> None:
        """Ray Serve calls it once a replica that is to go has finished its requests."""
        self._door.close()
        self._engine.close()
        self._observer.close()

    @api.get("/health")
    async def health(self) -> dict[str, str | int]:
        """That this replica is up, and what it does."""
        return {
            "status": "ok",
            "ongoing": self._door.ongoing,
            "generated_tokens": self._engine.load.generated_tokens,
        }

    @api.get("/ready")
    async def ready(self) -> Response:
        """Whether this replica takes requests: 200, or 503 where its engine is dead or it is full."""
        try:
            self._engine.check()
            self._door.check_room()
        except (EngineError, ApiError) as error:
            return JSONResponse({"status": "not ready", "reason": str(error)}, 503)
        return JSONResponse({"status": "ready"})

    @api.get("/metrics")
    async def metrics(self) -> Response:
        """Prometheus metrics of all replicas."""
        return Response(await exposition(), media_type=CONTENT_TYPE)

    @api.get("/v1/models")
    async def models(self, request: Request) -> dict[str, Any]:
        """The one model."""
        self._door.identify(request.headers)
        return {"object": "list", "data": [self._model()]}

    @api.get("/v1/models/{name:path}")
    async def model(self, request: Request, name: str) -> dict[str, Any]:
        """The one model, by its name."""
        self._door.identify(request.headers)
        self._check_model(name)
        return self._model()

    def _model(self) -> dict[str, Any]:
        served = self._replica.served
        extra: Any = {
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
        model = Model(id=served.model, created=self._created, object="model", owned_by="presafe", **extra)
        return model.to_dict()

    def _check_model(self, name: str) -> None:
        served = self._replica.served.model
        if name != served:
            message = f"there is no model {shortened(name, LONGEST_PARAM)!r}; this endpoint serves {served!r}"
            raise ApiError(404, message, param="model", code="model_not_found")

    @api.post("/v1/chat/completions", openapi_extra=BODY)
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
            key = self._door.identify(request.headers)
            limits = held.enter_context(self._door.admit(key))
            chat, prompt = await self._door.read(request, self._prompt)
            held.enter_context(self._door.place())
            room = self._replica.room(chat, len(prompt))
            n, reply = chat.n or 1, Reply(self._replica.served, len(prompt))
            watch = Watch(self._observer, reply.id, None if key is None else key.id, began)
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
