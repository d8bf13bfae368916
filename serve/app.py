"""The Ray Serve application. Run it with `presafe serve MODEL`, or `serve deploy serve/config.yaml` on a cluster.

Who deploys imports neither torch nor what answers requests: that is the replica's, serve/api/routes.py.
"""

import gc
from typing import Any

from ray import serve
from ray.serve.config import RequestRouterConfig

from presafe import storage
from presafe.cluster.options import actor_options
from serve.arguments import ServeArgs, application_args
from serve.servable import servable_card

SESSION_ROUTER = "serve.routing:SessionRouter"
TURNED_AWAY = 256
"""Requests that a replica holds beside those that generate: to be told 503, or how the replica is."""


def build(args: dict[str, Any]) -> serve.Application:
    """The application, of the fields of ServeArgs, or of `run` and some of them.

    Raises ValueError where they, or the model's card, are wrong.
    """
    settings = application_args(args)
    if settings.unaligned:
        from presafe.engines.exported import check_model

        check_model(settings.model)
    else:
        servable_card(settings.model, settings)
    settings = settings.model_copy(update={"model": storage.absolute(settings.model)})
    workers, autoscaling = settings.workers, settings.autoscaling
    replicas = {"num_replicas": workers.num_workers} if autoscaling is None else {}
    by_session = settings.routing == "session"
    routing = {"request_router_config": RequestRouterConfig(request_router_class=SESSION_ROUTER)} if by_session else {}
    deployment: Any = Endpoint  # a type checker takes it for the class in front of its decorators
    return deployment.options(
        **replicas,
        autoscaling_config=None if autoscaling is None else autoscaling.model_dump(),
        max_ongoing_requests=settings.access.max_ongoing_requests + TURNED_AWAY,
        graceful_shutdown_timeout_s=settings.drain_s,
        ray_actor_options=actor_options(workers),
        **routing,
    ).bind(settings)


@serve.deployment
@serve.ingress()
class Endpoint:
    """One replica: a model on its engine, and OpenAI's protocol in front of it."""

    def __init__(self, settings: ServeArgs) -> None:
        # What is loaded here stays. Collections would look through it again and again, now and beside every request; a
        # single one takes half a second of the start.
        gc.disable()
        from serve.api.routes import Routes

        self._routes = Routes(settings)
        gc.freeze()
        gc.enable()

    def __serve_build_asgi_app__(self) -> Any:
        """Ray Serve takes the replica's addresses from here."""
        return self._routes.asgi_app()

    def check_health(self) -> None:
        """Ray Serve replaces a replica where this raises."""
        self._routes.check_health()

    async def __del__(self) -> None:
        """Ray Serve calls it once a replica that is to go has finished its requests."""
        self._routes.close()
