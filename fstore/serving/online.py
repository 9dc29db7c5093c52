"""Online reads over HTTP: the route whose latency a model's caller waits for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fstore.retrieval.async_client import AsyncClient
from fstore.retrieval.uneven_rows import lacking
from fstore.serving.entities import by_column, json_types, needs_types, typed_table
from fstore.serving.exchange import Answer, Received
from fstore.serving.inputs import DeclaredInputs
from fstore.serving.media import Form
from fstore.serving.online_answers import online_arrow, online_json
from fstore.serving.requests import OnlineOptions, OnlineRequests, check_rows, count_rows, read_arrow

if TYPE_CHECKING:
    import pyarrow as pa

    from fstore.retrieval.online_response import OnlineResponse


class OnlineRoute:
    """The handler of ``POST /v1/online-features``."""

    def __init__(self, client: AsyncClient, inputs: DeclaredInputs, max_keys: int) -> None:
        self._client, self._inputs, self._max_keys = client, inputs, max_keys
        self._requests = OnlineRequests()

    async def answer(self, received: Received) -> Answer:
        """Answer a request."""
        if received.body_form is Form.ARROW:
            options, table = read_arrow(OnlineOptions, received.body, self._max_keys)
            response = await self._client.get_online_features(
                options.features, table, service=options.service, full_names=options.full_names
            )
            return _answer(response, table, options, received.answer_form)
        request = self._requests.read(received.body)
        check_rows(count_rows(request.entities), self._max_keys)
        entities = by_column(request.entities)
        values = request.request
        declared = self._inputs.remembered(request.features, request.service)
        if declared is None:
            declared = await asyncio.to_thread(self._inputs.read, request.features, request.service)
        given: dict[str, list[object]] | pa.Table = entities
        uneven = type(request.entities) is list and bool(lacking(request.entities))
        if values or request.types or uneven or needs_types(entities, declared):
            given = typed_table(request.entities, request.types, declared, values)
        response = await self._client.get_online_features(
            request.features, given, service=request.service, full_names=request.full_names
        )
        return _answer(response, given, request, received.answer_form)


def _answer(
    response: OnlineResponse, given: dict[str, list[object]] | pa.Table, options: OnlineOptions, form: Form
) -> Answer:
    if form is Form.ARROW:
        return online_arrow(response, details=options.statuses or options.event_timestamps)
    return online_json(response, json_types(given), statuses=options.statuses, event_timestamps=options.event_timestamps)
