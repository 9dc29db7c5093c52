"""The description of the routes, as OpenAPI 3.1: schemas from the structs that decode requests and encode answers.

What a struct cannot say, such as how an Arrow stream holds options, is said in words, and every read has an example.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

import fstore
from fstore.retrieval.training import MANIFEST_KEY
from fstore.serving.catalogue import Features, Services
from fstore.serving.health import Readiness
from fstore.serving.media import ARROW_TYPE, JSON_TYPE
from fstore.serving.metrics import METRICS_TYPE
from fstore.serving.online_answers import OnlineAnswer
from fstore.serving.problems import PROBLEM_TYPE, STATUSES, Problem
from fstore.serving.requests import REQUEST_KEY, BatchRequest, HistoricalRequest, OnlineRequest
from fstore.serving.responses import FrameAnswer
from fstore.serving.streaming import PROBLEM_KEY

_SCHEMAS = (
    OnlineRequest,
    OnlineAnswer,
    HistoricalRequest,
    FrameAnswer,
    BatchRequest,
    Problem,
    Services,
    Features,
    Readiness,
)
_REFERENCE = "#/components/schemas/{name}"

_ARROW_REQUEST = (
    f"An Arrow IPC stream of entity rows. Its schema's metadata has the options, all members of the JSON request but the "
    f"entities, as a JSON object under `{REQUEST_KEY.decode()}`."
)
_ARROW_ANSWER = "An Arrow IPC stream: the given columns, then the features in the order asked for."
_STREAM_ANSWER = (
    f"{_ARROW_ANSWER} It ends with a batch without rows, whose metadata has `{MANIFEST_KEY.decode()}`, or "
    f"`{PROBLEM_KEY.decode()}` if the read failed on its way. Without such a batch it was cut."
)
_PROBLEMS = {
    400: "The body, a header or the query is not what the route takes.",
    404: "There is no such view, feature or service.",
    406: "The answer has no form that Accept allows, or a column has no form in JSON.",
    410: "What a read as of an earlier moment needs is deleted.",
    413: "More bytes or entity rows than the server takes.",
    415: "The body is neither JSON nor an Arrow stream.",
    422: "The entities lack a column, or one is of the wrong type; names clash; or history was never published.",
    429: "As many historical reads are running as the server allows. Retry-After says when to come again.",
    500: "The server failed.",
    503: "A store or the registry cannot be reached, or is empty. Retry-After says when to come again.",
    504: "The answer was not ready in time.",
}


@lru_cache(maxsize=1)
def describe_api() -> dict[str, Any]:
    """Return the whole document."""
    _, schemas = msgspec.json.schema_components(_SCHEMAS, ref_template=_REFERENCE)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fstore",
            "version": fstore.__version__,
            "description": "Features for training and serving. Values and errors: docs/reference/http.md.",
        },
        "paths": {
            "/v1/online-features": {"post": _read(
                "online_features", "Read the features of entities as they are now.", OnlineRequest, OnlineAnswer,
                {"features": ["user_purchases:purchase_count_7d"], "entities": {"user_id": ["u1", "u2"]}},
                {"columns": [{"name": "user_id", "type": "string"}, {"name": "purchase_count_7d", "type": "int64"}],
                 "rows": 2, "values": {"user_id": ["u1", "u2"], "purchase_count_7d": [3, None]}},
            )},
            "/v1/historical-features": {"post": _read(
                "historical_features", "Join features to entity rows, each as it was known at the row's instant.",
                HistoricalRequest, FrameAnswer,
                {"service": "churn",
                 "entity_rows": {"user_id": ["u1"], "event_timestamp": ["2026-01-02T03:04:05Z"], "churned": [True]}},
            )},
            "/v1/scan-historical-features": {"post": _streamed(_read(
                "scan_historical_features", "Join features to entity rows, and send the frame while it is read.",
                HistoricalRequest, FrameAnswer,
                {"service": "churn",
                 "entity_rows": {"user_id": ["u1"], "event_timestamp": ["2026-01-02T03:04:05Z"], "churned": [True]}},
            ))},
            "/v1/batch-features": {"post": _read(
                "batch_features", "Join the newest values to entities, from the offline store.", BatchRequest, FrameAnswer,
                {"features": ["user_purchases:*"], "entity_rows": [{"user_id": "u1"}, {"user_id": "u2"}]},
            )},
            "/v1/services": {"get": _listing("services", "List the feature services.", Services)},
            "/v1/features": {"get": _listing("features", "List the features that are live.", Features)},
            "/health/live": {"get": {
                "operationId": "live", "summary": "Whether the process answers.",
                "responses": {"200": {"description": "It does."}},
            }},
            "/health/ready": {"get": {
                "operationId": "ready", "summary": "Whether requests should come here, and why not.",
                "responses": {
                    "200": {"description": "They should.", "content": {JSON_TYPE: {"schema": _ref(Readiness)}}},
                    "503": {"description": "They should not.", "content": {JSON_TYPE: {"schema": _ref(Readiness)}}},
                },
            }},
            "/metrics": {"get": {
                "operationId": "metrics", "summary": "Counts of all workers, for Prometheus.",
                "responses": {"200": {"description": "In Prometheus' text format.", "content": {METRICS_TYPE: {
                    "schema": {"type": "string"}}}}},
            }},
        },
        "components": {"schemas": schemas},
    }  # fmt: skip


def _read(
    name: str, summary: str, request: type[msgspec.Struct], answer: type[msgspec.Struct], asked: dict[str, Any],
    answered: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    told: dict[str, Any] = {"schema": _ref(answer)}
    if answered is not None:
        told["example"] = answered
    return {
        "operationId": name,
        "summary": summary,
        "requestBody": {
            "required": True,
            "content": {
                JSON_TYPE: {"schema": _ref(request), "example": asked},
                ARROW_TYPE: {"schema": {"type": "string", "format": "binary", "description": _ARROW_REQUEST}},
            },
        },
        "parameters": [
            {"name": "fstore-timeout", "in": "header", "description": "Seconds until the caller gives up.",
             "schema": {"type": "number", "exclusiveMinimum": 0}},
            {"name": "x-request-id", "in": "header", "description": "Comes back, and stands in the server's log.",
             "schema": {"type": "string", "maxLength": 128}},
        ],
        "responses": {
            "200": {"description": "The features.", "content": {
                JSON_TYPE: told,
                ARROW_TYPE: {"schema": {"type": "string", "format": "binary", "description": _ARROW_ANSWER}},
            }},
            **{str(status): _problem(status) for status in STATUSES if status in _PROBLEMS},
        },
    }  # fmt: skip


def _streamed(operation: dict[str, Any]) -> dict[str, Any]:
    """Return a read whose answer is a stream: in Arrow only."""
    schema = {"type": "string", "format": "binary", "description": _STREAM_ANSWER}
    operation["responses"]["200"]["content"] = {ARROW_TYPE: {"schema": schema}}
    return operation


def _listing(name: str, summary: str, answer: type[msgspec.Struct]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": {"description": "The list.", "content": {JSON_TYPE: {"schema": _ref(answer)}}},
            **{str(status): _problem(status) for status in (500, 503, 504)},
        },
    }


def _problem(status: int) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": _PROBLEMS[status], "content": {PROBLEM_TYPE: {"schema": _ref(Problem)}},
    }  # fmt: skip
    if status in (429, 503):
        described["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return described


def _ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=kind.__name__)}
