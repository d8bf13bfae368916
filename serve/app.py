"""The Ray Serve application. Run it with `presafe serve MODEL`, or `serve deploy serve/config.yaml` on a cluster."""

import time
from typing import Any

import torch
from fastapi import FastAPI
from fastapi.responses import Response, StreamingResponse
from jinja2 import TemplateError
from openai.types import Model
from ray import serve

from presafe import storage
from presafe.config import Endpoint as EndpointSettings
from presafe.config import Workers
from presafe.engines.card import read_card
from presafe.engines.exported import load_exported
from presafe.errors import UserError, user_error
from serve.completion import Sampling
from serve.errors import HANDLERS, ApiError
from serve.generation import Engine, Generator
from serve.protocol import ChatRequest, Reply
from serve.streaming import server_sent_events

MAX_ONGOING_REQUESTS = 8
"""Requests a replica holds: one generates, the others wait in its line."""
MAX_QUEUED_REQUESTS = 16
"""Requests that wait for a replica; Serve answers 503 to any more."""


class ServeArgs(EndpointSettings):
    """Arguments of the application."""

    model: str
    """Exported model: the model/ folder of a run, by path or URL that every node can reach."""


def build(args: dict[str, Any]) -> serve.Application:
    """The application, of the fields of ServeArgs. Raises ValueError where they, or the model's card, are wrong."""
    settings = ServeArgs.model_validate(args)
    read_card(settings.model)
    settings = settings.model_copy(update={"model": storage.absolute(settings.model)})
    workers = settings.workers
    deployment: Any = Endpoint  # a type checker takes it for the class in front of its decorators
    return deployment.options(
        num_replicas=workers.num_workers,
        ray_actor_options={"num_cpus": workers.num_cpus, "num_gpus": workers.num_gpus},
    ).bind(settings)


def _device(workers: Workers) -> str:
    if workers.num_gpus == 0:
        return "cpu"
    if not torch.cuda.is_available():
        raise user_error(
            found=f"a replica with {workers.num_gpus:g} GPU(s) but without CUDA",
            needed="a torch that sees the GPU",
            change="install torch with CUDA in the replica's environment, or set workers.num_gpus to 0",
        )
    return "cuda"


api = FastAPI(title="PreSafe", exception_handlers=HANDLERS, openapi_url=None)


@serve.deployment(max_ongoing_requests=MAX_ONGOING_REQUESTS, max_queued_requests=MAX_QUEUED_REQUESTS)
@serve.ingress(api)
class Endpoint:
    """One replica: a model, its engine, and OpenAI's protocol in front of it.

    Ray Serve pickles this class by value, here and now: it sees only what stands above it in this file.
    """

    def __init__(self, settings: ServeArgs) -> None:
        loaded = load_exported(settings.model, _device(settings.workers))
        self._generator = Generator(loaded, settings.gate, settings.max_prompt_tokens, settings.max_new_tokens)
        self._engine = Engine(self._generator)
        self._served_name = settings.served_name
        self._created = int(time.time())

    def check_health(self) -> None:
        """Ray Serve replaces a replica where this raises."""
        self._engine.check()

    @api.get("/health")
    async def health(self) -> dict[str, str | int]:
        """That this replica is up, and what it does."""
        tokens = self._generator.generated_tokens
        return {"status": "ok", "ongoing": self._engine.ongoing, "generated_tokens": tokens}

    @api.get("/v1/models")
    async def models(self) -> dict[str, Any]:
        """The one model."""
        model = Model(id=self._served_name, created=self._created, object="model", owned_by="presafe")
        return {"object": "list", "data": [model.to_dict()]}

    @api.post("/v1/chat/completions")
    async def chat(self, request: ChatRequest) -> Response:
        """Refuse, or think and answer."""
        if request.model != self._served_name:
            message = f"there is no model {request.model!r}; this endpoint serves {self._served_name!r}"
            raise ApiError(404, message, param="model", code="model_not_found")
        prompt = self._prompt(request)
        sampling = self._sampling(request, len(prompt))
        reply = Reply(self._served_name, len(prompt), self._generator.card.threshold, self._generator.gate)
        if request.stream:
            events = self._engine.stream(prompt, sampling)
            chunks = server_sent_events(events, reply, include_usage=request.include_usage)
            return StreamingResponse(chunks, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        completion = reply.completion([event async for event in self._engine.stream(prompt, sampling)])
        return Response(completion, media_type="application/json")

    def _prompt(self, request: ChatRequest) -> list[int]:
        """Token ids of the CoT-ON prompt."""
        try:
            prompt = self._generator.format.prompt_ids(request.conversation)
        except (TemplateError, UserError) as error:
            raise ApiError(400, f"messages: {error}", param="messages", code="invalid_value") from error
        longest = self._generator.max_prompt_tokens
        if len(prompt) > longest:
            message = f"found a conversation of {len(prompt)} tokens; at most {longest} fit; shorten it"
            raise ApiError(400, message, param="messages", code="context_length_exceeded")
        return prompt

    def _sampling(self, request: ChatRequest, prompt_tokens: int) -> Sampling:
        room, limit = self._generator.room(prompt_tokens), request.token_limit
        if limit is not None and limit > room:
            param = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
            message = f"found {param} {limit}; at most {room} behind this conversation; lower it or leave it out"
            raise ApiError(400, message, param=param, code="invalid_value")
        return request.sampling(room)
