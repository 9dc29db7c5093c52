"""Addresses with credentials: databases that sources name, and what of a URL may be shown.

Takes a connection's name and gives its URL from the environment; gives of a URL what may be shown. Opens nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote, urlsplit, urlunsplit

from fstore.definitions.source import PostgresSource
from fstore.errors import SettingsError

AIRFLOW = "airflow://"
"""Begins the name of a connection that Airflow keeps."""

LookUp = Callable[[str], str]
"""Gives the URL of a connection by name."""


def variable_name(connection: str) -> str:
    """Return the environment variable that holds the URL of a connection."""
    return "FSTORE_CONNECTION_" + re.sub(r"[^A-Za-z0-9]", "_", connection.removeprefix(AIRFLOW)).upper()


def connection_url(connection: str, environ: Mapping[str, str] | None = None) -> str:
    """Return the URL of a connection. Raises SettingsError when the environment does not say it."""
    environ = os.environ if environ is None else environ
    variable = variable_name(connection)
    if url := environ.get(variable, ""):
        if url.partition("://")[0].partition("+")[0] not in ("postgresql", "postgres"):
            raise SettingsError(
                f"{variable} is not the URL of a PostgreSQL database: write postgresql://user:password@host/db"
            )
        return url
    if connection.startswith(AIRFLOW):
        raise SettingsError(
            f"connection {connection!r} is Airflow's, which only its own processes can look up; set {variable} to use it "
            "here"
        )
    raise SettingsError(
        f"connection {connection!r} is not known: set {variable}=postgresql://user:password@host:5432/database"
    )


def shown_address(url: str) -> tuple[str, str]:
    """Return ``postgres://host:port`` and the database's name of a URL: no user, no password."""
    parts = urlsplit(url)
    return f"postgres://{parts.hostname or 'localhost'}:{parts.port or 5432}", unquote(parts.path.strip("/")) or "postgres"


def table_address(source: PostgresSource, url: str | None) -> tuple[str, str]:
    """Return a table as OpenLineage names it: ``postgres://host:port`` and ``database.schema.table``.

    A query is called by its source. Without a URL the connection's name is all there is.
    """
    namespace, database = shown_address(url) if url is not None else (f"postgres://{source.connection}", "")
    if source.table is None:
        name = f"query.{source.name}"
    else:
        parts = [part.strip('"') for part in re.findall(r'"[^"]+"|[^."]+', source.table)]
        name = ".".join(parts if len(parts) > 1 else ["public", *parts])
    return namespace, f"{database}.{name}" if database else name


def masked_url(url: str) -> str:
    """Return a URL without passwords: neither that of its user nor those among its options."""
    parts = urlsplit(url)
    query = re.sub(r"(?i)\b(\w*password)=[^&]*", r"\1=***", parts.query)
    if parts.password is None:
        return url if query == parts.query else urlunsplit(parts._replace(query=query))
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}", query=query))


def without_credentials(text: str, url: str) -> str:
    """Return a text in which nothing of a URL's credentials occurs."""
    password = urlsplit(url).password or ""
    secrets = sorted({url, password, unquote(password)} - {""}, key=len, reverse=True)  # the URL before what it contains
    return re.sub("|".join(map(re.escape, secrets)), "***", text)
