"""The application that a worker serves: the routes, and the parts behind them while it runs.

FastAPI holds the routes, the documentation pages and the lifespan. The routes themselves are bare ASGI applications: nothing
validates a request but the handler's own decoder, and the description at ``/openapi.json`` is made from the same structs.
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
from collections.abc import AsyncIterator, Callable
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
from fstore.registry.registry import Registry
from fstore.retrieval.async_client import AsyncClient
from fstore.retrieval.client import Client
from fstore.retrieval.client_settings import client_settings
from fstore.serving.catalogue import list_features, list_services, listing_answer
from fstore.serving.deadlines import Deadlines
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
        self._exchanges: dict[tuple[str, str], Exchange] = {}
        self.fastapi = FastAPI(lifespan=self._lifespan, openapi_url="/openapi.json", redoc_url=None)
        self.fastapi.openapi = describe_api  # type: ignore[method-assign]
        self.fastapi.add_exception_handler(HTTPException, self._unknown)

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
            around = Surroundings(
                limits=Limits(body_bytes=settings.serve_max_body_bytes, seconds=settings.serve_timeout),
                deadlines=Deadlines(), metrics=metrics, lifecycle=lifecycle, log_access=settings.serve_access_log,
            )  # fmt: skip
            historical = HistoricalRoutes(threads, inputs, settings.serve_max_rows, settings.serve_timeout)
            self._serve("POST", "/v1/online-features", OnlineRoute(client, inputs, settings.serve_max_keys).answer, around)
            self._serve("POST", "/v1/historical-features", historical.historical, around)
            self._serve("POST", "/v1/scan-historical-features", historical.scan, around)
            self._serve("POST", "/v1/batch-features", historical.batch, around)
            health = Health(backends, lifecycle)
            self._serve("GET", "/v1/services", _listing(list_services, backends), around)
            self._serve("GET", "/v1/features", _listing(list_features, backends), around)
            self._serve("GET", "/health/live", health.live, around)
            self._serve("GET", "/health/ready", health.ready, around)
            self._serve("GET", "/metrics", _counts(metrics), around)
            lifecycle.drain_on_terminate(settings.serve_drain)
            gc.collect()
            gc.freeze()  # hundreds of thousands of objects that stay: looking through them again and again costs a tenth
            try:
                yield
            finally:
                await asyncio.to_thread(threads.close)
                await client.close()
                metrics.close()

    def _serve(self, method: str, path: str, handle: Handler, around: Surroundings) -> None:
        """Let a handler answer a method of a path."""
        exchange = Exchange(path.rpartition("/")[2], handle, around)
        self._exchanges[method, path] = exchange
        self.fastapi.router.routes.append(Route(path, exchange, methods=[method]))

    async def _unknown(self, request: Request, raised: Exception) -> Response:
        """Answer what no route takes: an unknown path, or a path with another method."""
        assert isinstance(raised, HTTPException), "registered for these only"
        path, paths = request.url.path, [path for _, path in self._exchanges]
        if raised.status_code == 405:
            problem = f"{path} does not take {request.method}; see /openapi.json"
        else:
            problem = f"there is no {path}; there are {', '.join(paths)}.{did_you_mean(path, paths)}"
        error = RouteUnknown(problem)
        headers = dict(raised.headers or {})
        return Response(encode_problem(error, raised.status_code, ""), raised.status_code, headers, PROBLEM_TYPE)


def _listing(read: Callable[[Registry], msgspec.Struct], backends: Backends) -> Handler:
    async def handle(_received: Received) -> Answer:
        return await asyncio.to_thread(listing_answer, read, backends)

    return handle


def _counts(metrics: Metrics) -> Handler:
    async def handle(_received: Received) -> Answer:
        return Answer(body=[metrics.text().encode()], content_type=METRICS_TYPE)

    return handle
