"""Addresses with credentials: databases that sources name, and what of a URL may be shown.

Takes a connection's name and gives its URL from the environment; gives of a URL what may be shown. Opens nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote, urlsplit

from fstore.definitions.source import PostgresSource
from fstore.errors import SettingsError

AIRFLOW = "airflow://"
"""Begins the name of a connection that Airflow keeps."""

_PASSWORD = re.compile(r"[^:/]*://[^:/]*:(?P<secret>.*)@", re.DOTALL)
_OPTION = re.compile(r"(?<=[?&;])(?P<name>[^=&?;]*)=(?P<secret>[^&]*)")
_SECRET = re.compile(r"(?i)password|passwd|secret|token")
_DELIMITERS = re.compile(r"[@/?#:\[\]&=]")

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
    try:
        parts = urlsplit(url)
        host, port, path = parts.hostname, parts.port, parts.path
    except ValueError:
        path = "@"
    if "@" in path:  # of a password that is not escaped: what comes after it is the address
        authority, _, path = masked_url(url).rpartition("@")[2].partition("?")[0].partition("/")
        host, _, given = authority.partition(":")
        port = int(given) if given.isdecimal() else None
    return f"postgres://{host or 'localhost'}:{port or 5432}", unquote(path.strip("/")) or "postgres"


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
    """Return a URL without passwords: neither its user's nor those among its options. Raises nothing."""
    shown, end = "", 0
    for first, last in _secret_spans(url):
        if last > end:  # one that begins within the one before makes it longer
            shown += url[end:first] + "***" if first >= end else ""
            end = last
    return shown + url[end:]


def without_credentials(text: str, url: str) -> str:
    """Return a text in which nothing of a URL's credentials occurs. Raises nothing, whatever the texts.

    A parser that ends a password at a character which was not escaped tells what it took for a port or a host: such pieces
    are hidden where they stand as words.
    """
    secrets = {url[first:last] for first, last in _secret_spans(url)}
    pieces = {piece for secret in secrets for piece in _DELIMITERS.split(secret)} - secrets - {""}
    whole = sorted({url, *secrets, *map(unquote, secrets)} - {""}, key=len, reverse=True)  # the URL before what it contains
    hidden = [re.escape(secret) for secret in whole]
    hidden += [rf"(?<!\w){re.escape(piece)}(?!\w)" for piece in sorted(pieces, key=len, reverse=True)]
    return re.sub("|".join(hidden), "***", text) if hidden else text


def _secret_spans(url: str) -> list[tuple[int, int]]:
    """Return where a URL's secrets begin and end, in order: its user's password, and the options that are secret.

    Parsers of URLs disagree about characters that were not escaped, so this is by text, and for more rather than less: the
    password goes up to the last ``@``, whatever is between.
    """
    user = _PASSWORD.match(url)
    options = (option for option in _OPTION.finditer(url) if _SECRET.search(unquote(option["name"])))
    return sorted([*([user.span("secret")] if user else []), *(option.span("secret") for option in options)])
