"""Connecting to a PostgreSQL that is not there, or that is there and silent."""

from __future__ import annotations

import socket
import time

import pytest

from fstore.errors import RegistryUnavailable, SettingsError
from fstore.registry.connecting import open_engine, parse_url
from fstore.registry.registry import open_registry
from tests.registry.examples import PROJECT

pytest.importorskip("psycopg")


def test_a_server_that_accepts_and_never_answers_is_given_up_after_the_time_in_the_url() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel connects, and nobody reads
        port = silent.getsockname()[1]
        with open_registry(f"postgresql://fs:secret@127.0.0.1:{port}/fstore?connect_timeout=2", PROJECT) as registry:
            began = time.monotonic()
            with pytest.raises(RegistryUnavailable, match="cannot be reached now") as error:
                registry.state()
            waited = time.monotonic() - began
    assert 1.5 < waited < 9, "not the ten seconds of the default"
    assert error.value.retryable
    assert "secret" not in str(error.value)


def test_options_in_the_url_take_the_place_of_defaults() -> None:
    url = parse_url("postgresql://db/fstore?connect_timeout=3&application_name=training")
    query = open_engine(url, create=False).url.query
    assert (query["connect_timeout"], query["application_name"], query["keepalives_idle"]) == ("3", "training", "10")
    assert open_engine(parse_url("postgresql://db/fstore"), create=False).url.query["connect_timeout"] == "10"


@pytest.mark.parametrize("given", ["soon", "1", "-5", "2.5"])
def test_a_time_that_is_none_is_said(given: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse_url(f"postgresql://db/fstore?connect_timeout={given}")
    assert str(error.value) == (f"connect_timeout of the registry is {given!r}; it is a whole number of seconds, 2 or more")
