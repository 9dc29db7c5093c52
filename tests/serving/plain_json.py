"""Reads JSON answers by hand, as a client in another language would: shares no code with the server."""

from __future__ import annotations

import base64
import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from email.message import Message
from typing import Any


class Reply:
    """Status, headers and body of an answer, whatever the status."""

    def __init__(self, status: int, headers: Message, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def send(url: str, body: object = None, *, method: str | None = None, headers: Mapping[str, str] | None = None) -> Reply:
    """Send bytes as they are, anything else as JSON, nothing as a GET."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    given = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, data=data, headers=given, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return Reply(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, error.headers, error.read())


def table(answer: Mapping[str, Any]) -> dict[str, list[object]]:
    """Return the values of an answer as Python has them, column by column."""
    types = {column["name"]: column["type"] for column in answer["columns"]}
    assert list(types) == list(answer["values"])
    assert {len(values) for values in answer["values"].values()} == {answer["rows"]}
    return {name: [value_of(item, types[name]) for item in values] for name, values in answer["values"].items()}


def value_of(item: Any, kind: str) -> object:
    """Return a value from its JSON form and its type."""
    if item is None:
        return None
    if kind.startswith("list<"):
        return [value_of(each, kind[5:-1]) for each in item]
    if kind.startswith("map<"):
        return {key: value_of(each, kind[4:-1].split(",", 1)[1]) for key, each in item.items()}
    if match := re.fullmatch(r"(float..)\[\d+\]", kind):
        return [value_of(each, match[1]) for each in item]
    if kind.startswith("decimal"):
        return Decimal(item)
    if kind.startswith(("int", "uint")):
        return int(item)
    if kind.startswith("float"):
        return float(item)
    if kind == "binary":
        return base64.b64decode(item)
    if kind == "date":
        return date.fromisoformat(item)
    if kind == "timestamp":
        return datetime.fromisoformat(item)
    return item
