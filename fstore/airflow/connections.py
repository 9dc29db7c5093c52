"""Store URLs that name an Airflow connection: ``airflow://connection_id``.

Takes the settings of a project; gives the same settings with such URLs replaced by those of the connections, credentials
included. Only tasks and triggers do this: at parse time every look-up costs a round trip, per parse and per task.
"""

from __future__ import annotations

import os
from urllib.parse import quote, urlencode

import msgspec
from airflow.sdk import BaseHook, Connection

from fstore.connections import connection_url as environment_url
from fstore.connections import variable_name
from fstore.errors import SettingsError
from fstore.settings import Settings

_SCHEME = "airflow://"
_SCHEMES = {"postgres": "postgresql", "aws": "", "fs": "file", "generic": ""}


def resolve_settings(settings: Settings) -> Settings:
    """Return the settings with every ``airflow://`` URL looked up. Raises SettingsError for an unknown connection."""
    return msgspec.structs.replace(
        settings,
        registry_url=resolve_url(settings.registry_url),
        offline_url=resolve_url(settings.offline_url),
        online_url=resolve_url(settings.online_url),
    )


def resolve_url(url: str) -> str:
    """Return the URL of an Airflow connection; other URLs are returned as they are.

    A path after the connection's id is appended (``airflow://bucket/features`` adds ``/features``). The connection's extra
    field ``url``, when there is one, is taken whole.
    """
    if not url.startswith(_SCHEME):
        return url
    name, _, path = url.removeprefix(_SCHEME).partition("/")
    try:
        connection = BaseHook.get_connection(name)
    except Exception as error:  # the secrets backends behind it raise what they like
        raise SettingsError(f"{url} names the Airflow connection {name!r}, which cannot be read: {error}") from error
    base = connection_url(connection)
    return f"{base.rstrip('/')}/{path}" if path else base


def source_connection(name: str) -> str:
    """Return the URL of a database that a source names: from the environment, or an Airflow connection (``airflow://id``)."""
    if name.startswith(_SCHEME) and not os.environ.get(variable_name(name)):
        return resolve_url(name)
    return environment_url(name)


def connection_url(connection: Connection) -> str:
    """Write an Airflow connection as a URL of ours: its type is the scheme, its extra the query."""
    extra = {str(key): str(value) for key, value in (connection.extra_dejson or {}).items()}
    if "url" in extra:
        return extra["url"]
    scheme = _SCHEMES.get(connection.conn_type or "", connection.conn_type or "")
    if not scheme:
        raise SettingsError(
            f"Airflow connection {connection.conn_id!r} has type {connection.conn_type!r}, which says no store; use "
            'postgres or redis, or give the whole URL as extra {"url": "s3://bucket/prefix"} (credentials come from AWS_*)'
        )
    if scheme == "file":
        return f"file:{extra.get('path', '')}"
    login = quote(connection.login or "", safe="")
    secret = f":{quote(connection.password, safe='')}" if connection.password else ""
    who = f"{login}{secret}@" if login or secret else ""
    port = f":{connection.port}" if connection.port else ""
    database = f"/{connection.schema}" if connection.schema else ""
    query = f"?{urlencode(extra)}" if extra else ""
    return f"{scheme}://{who}{connection.host or ''}{port}{database}{query}"
