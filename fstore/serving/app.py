"""The application that a worker serves: the routes, and the parts behind them while it runs.

FastAPI holds the routes, the documentation pages and the lifespan. The routes themselves are bare ASGI applications: nothing
validates a request but the handler's own decoder, and the description at ``/openapi.json`` is made from the same structs.
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from fstore.backends import Backends, open_backends
from fstore.errors import RouteUnknown, did_you_mean
from fstore.retrieval.async_client import AsyncClient
from fstore.retrieval.client import Client
from fstore.retrieval.client_settings import client_settings
from fstore.serving.catalogue import list_features, list_services, listing_answer
from fstore.serving.exchange import Answer, Exchange, Handler, Limits, Received, Surroundings
from fstore.serving.health import Health
from fstore.serving.historical import HistoricalRoutes, ReadingThreads
from fstore.serving.inputs import DeclaredInputs
from fstore.serving.lifecycle import Lifecycle
from fstore.serving.metrics import METRICS_TYPE, Metrics
from fstore.serving.online import OnlineRoute
from fstore.serving.openapi import describe_api
from fstore.serving.problems import PROBLEM_TYPE, encode_problem
from fstore.settings import Settings

METRICS_VARIABLE = "FSTORE_METRICS_DIR"
"""Where the workers of a server count, set by the process that starts them."""


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a worker that runs."""

    surroundings: Surroundings
    online: OnlineRoute
    historical: HistoricalRoutes
    backends: Backends
    health: Health


def create_app() -> App:
    """Return the application for the settings of the environment. Raises SettingsError."""
    return App(client_settings(None))


class App:
    """Routes to the parts of one worker, which exist between the lifespan's start and end.

    A request whose method and path are those of a route goes there at once: FastAPI's own way through middleware and routing
    costs as much as an online read. It has everything else: other paths and methods, the documentation, the lifespan.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._worker: Worker | None = None
        self.fastapi = FastAPI(lifespan=self._lifespan, openapi_url="/openapi.json", redoc_url=None)
        self.fastapi.openapi = describe_api  # type: ignore[method-assign]
        self.fastapi.add_exception_handler(HTTPException, self._unknown)
        post: dict[str, tuple[str, Handler]] = {
            "/v1/online-features": ("online-features", self._online),
            "/v1/historical-features": (
                "historical-features",
                self._historical,
            ),
            "/v1/batch-features": ("batch-features", self._batch),
        }
        get: dict[str, Callable[[], Awaitable[Answer]]] = {
            "/v1/services": self._services,
            "/v1/features": self._features,
            "/health/live": self._live,
            "/health/ready": self._ready,
            "/metrics": self._metrics,
        }
        routes = [(path, "POST", name, handle) for path, (name, handle) in post.items()]
        routes += [(path, "GET", "other", _without_request(answer)) for path, answer in get.items()]
        self._paths = [path for path, *_ in routes]
        self._exchanges = {(method, path): Exchange(name, handle, self._around) for path, method, name, handle in routes}
        for (method, path), exchange in self._exchanges.items():
            self.fastapi.router.routes.append(Route(path, exchange, methods=[method]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or begin and end with the server."""
        if scope["type"] == "http":
            exchange = self._exchanges.get((scope["method"], scope["path"]))
            if exchange is not None:
                await exchange(scope, receive, send)
                return
        await self.fastapi(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        """Open the parts, serve, and close them once the last answer is out."""
        settings, lifecycle = self._settings, Lifecycle()
        with tempfile.TemporaryDirectory(prefix="fstore-metrics-") as own:
            metrics = Metrics(Path(os.environ.get(METRICS_VARIABLE, own)))
            backends = open_backends(settings)
            client = AsyncClient(backends)
            inputs = DeclaredInputs(backends)
            threads = ReadingThreads(settings.serve_historical_reads, lambda: Client(settings))
            limits = Limits(body_bytes=settings.serve_max_body_bytes, seconds=settings.serve_timeout)
            self._worker = Worker(
                surroundings=Surroundings(
                    limits=limits, metrics=metrics, lifecycle=lifecycle, log_access=settings.serve_access_log
                ),
                online=OnlineRoute(client, inputs, settings.serve_max_keys),
                historical=HistoricalRoutes(threads, inputs, settings.serve_max_rows),
                backends=backends,
                health=Health(backends, lifecycle),
            )
            lifecycle.drain_on_terminate(settings.serve_drain)
            gc.collect()
            gc.freeze()  # hundreds of thousands of objects that stay: looking through them again and again costs a tenth
            try:
                yield
            finally:
                await asyncio.to_thread(threads.close)
                await client.close()
                metrics.close()

    @property
    def _running(self) -> Worker:
        assert self._worker is not None, "the lifespan begins before the first request"
        return self._worker

    def _around(self) -> Surroundings:
        return self._running.surroundings

    async def _online(self, received: Received) -> Answer:
        return await self._running.online(received)

    async def _historical(self, received: Received) -> Answer:
        return await self._running.historical.historical(received)

    async def _batch(self, received: Received) -> Answer:
        return await self._running.historical.batch(received)

    async def _live(self) -> Answer:
        return await self._running.health.live()

    async def _ready(self) -> Answer:
        return await self._running.health.ready()

    async def _services(self) -> Answer:
        return await asyncio.to_thread(listing_answer, list_services, self._running.backends)

    async def _features(self) -> Answer:
        return await asyncio.to_thread(listing_answer, list_features, self._running.backends)

    async def _metrics(self) -> Answer:
        return Answer(body=[self._around().metrics.text().encode()], content_type=METRICS_TYPE)

    async def _unknown(self, request: Request, raised: Exception) -> Response:
        """Answer what no route takes: an unknown path, or a path with another method."""
        assert isinstance(raised, HTTPException), "registered for these only"
        path = request.url.path
        if raised.status_code == 405:
            problem = f"{path} does not take {request.method}; see /openapi.json"
        else:
            problem = f"there is no {path}; there are {', '.join(self._paths)}.{did_you_mean(path, self._paths)}"
        error = RouteUnknown(problem)
        headers = dict(raised.headers or {})
        return Response(encode_problem(error, raised.status_code, ""), raised.status_code, headers, PROBLEM_TYPE)


def _without_request(answer: Callable[[], Awaitable[Answer]]) -> Handler:
    async def handle(_received: Received) -> Answer:
        return await answer()

    return handle
