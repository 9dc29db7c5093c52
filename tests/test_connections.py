"""Connections by name, and what of an address may be shown."""

import pytest

from fstore.backends import _check_identity, _check_scheme
from fstore.connections import (
    connection_url,
    masked_url,
    shown_address,
    table_address,
    variable_name,
    without_credentials,
)
from fstore.definitions.source import PostgresSource
from fstore.errors import SettingsError, StoreMismatch, StoreMissing
from fstore.registry.connecting import label_of, parse_url

URL = "postgresql://me:s%40cret@db.example:6543/shop"


def table(name: str | None = None, query: str | None = None) -> PostgresSource:
    return PostgresSource("orders", connection="shop", table=name, query=query, event_time="t")


def test_a_name_is_looked_up_in_the_environment() -> None:
    assert connection_url("shop", {"FSTORE_CONNECTION_SHOP": URL}) == URL
    assert variable_name("airflow://shop-db") == "FSTORE_CONNECTION_SHOP_DB"
    assert connection_url("airflow://shop-db", {"FSTORE_CONNECTION_SHOP_DB": URL}) == URL


@pytest.mark.parametrize(
    ("name", "environ", "message"),
    [
        (
            "shop",
            {},
            "connection 'shop' is not known: set FSTORE_CONNECTION_SHOP=postgresql://user:password@host:5432/database",
        ),
        (
            "airflow://shop",
            {},
            "connection 'airflow://shop' is Airflow's, which only its own processes can look up; set FSTORE_CONNECTION_SHOP to "
            "use it here",
        ),
        (
            "shop",
            {"FSTORE_CONNECTION_SHOP": "mysql://me:secret@db/shop"},
            "FSTORE_CONNECTION_SHOP is not the URL of a PostgreSQL database: write postgresql://user:password@host/db",
        ),
    ],
)
def test_what_is_missing_is_said(name: str, environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        connection_url(name, environ)
    assert str(caught.value) == message


def test_addresses_are_shown_without_credentials() -> None:
    assert shown_address(URL) == ("postgres://db.example:6543", "shop")
    assert table_address(table("orders"), URL) == ("postgres://db.example:6543", "shop.public.orders")
    assert table_address(table('sales."Orders.2026"'), URL) == ("postgres://db.example:6543", "shop.sales.Orders.2026")
    assert table_address(table(query="SELECT 1"), URL) == ("postgres://db.example:6543", "shop.query.orders")
    assert table_address(table("orders"), None) == ("postgres://shop", "public.orders")
    assert without_credentials(f"cannot reach {URL}: password s@cret, or s%40cret", URL) == (
        "cannot reach ***: password ***, or ***"
    )


@pytest.mark.parametrize(
    "password", ["p#ss", "p?ss", "p/ss", "p@ss", "p[ss", "p]ss", "p%ss", "p:ss", "1/ss", "p%23ss", "p%40ss", "p%5Bss"]
)
def test_no_password_is_shown_however_it_is_written(password: str) -> None:
    url = f"postgresql://app:{password}@db:6543/feat?application_name=f"
    assert masked_url(url) == "postgresql://app:***@db:6543/feat?application_name=f"
    assert label_of(parse_url(url)) == "postgresql://app:***@db:6543/feat?application_name=f"
    assert shown_address(url) == ("postgres://db:6543", "feat")
    assert without_credentials(f"{url} refused: {password} of app", url) == "*** refused: *** of app"


@pytest.mark.parametrize("password", ["p#ss", "p?ss", "p/ss", "p@ss", "p[ss", "p]ss", "p:ss"])
def test_what_a_parser_took_for_a_port_or_a_host_is_hidden(password: str) -> None:
    message = 'invalid port "p", no host "ss@db", while others pass'
    assert without_credentials(message, f"postgresql://app:{password}@db/feat") == (
        'invalid port "***", no host "***@db", while others pass'
    )


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("", ""),
        ("nothing of a URL", "nothing of a URL"),
        ("http://[", "http://["),
        ("sqlite:////data/a:b@c/registry.db", "sqlite:////data/a:b@c/registry.db"),
        ("lmdb:/data/a:b@c", "lmdb:/data/a:b@c"),
        ("s3://bucket/a?region=eu", "s3://bucket/a?region=eu"),
        ("postgresql://me@db:5432/shop", "postgresql://me@db:5432/shop"),
        ("postgresql://me@corp:secret@db/shop", "postgresql://me@corp:***@db/shop"),
        ("postgresql://me:secret@a:1,b:2/shop", "postgresql://me:***@a:1,b:2/shop"),
        ("redis+cluster://a:1,b:2?password=s#cr?t&db=0", "redis+cluster://a:1,b:2?password=***&db=0"),
        ("redis+sentinel://:s@a:1,b:2/m?sentinel_password=x&password=y", "redis+sentinel://:***@a:1,b:2/m?sentinel_password=***&password=***"),
        ("redis://host/0?pass%77ord=secret", "redis://host/0?pass%77ord=***"),
        ("redis://host/0?password=s@cret", "redis://host/0?password=***"),
        ("redis://host:1/0?password=s@cret", "redis://host:***"),
        ("postgresql://me:a&token=b@db/shop", "postgresql://me:***"),
    ],
)  # fmt: skip
def test_what_is_secret_is_masked_and_the_rest_is_shown(url: str, masked: str) -> None:
    assert masked_url(url) == masked
    assert masked_url(masked) == masked


def test_texts_lose_what_is_secret_and_nothing_else() -> None:
    assert without_credentials("hello", "") == "hello"
    assert without_credentials("hello", "postgresql://db/shop") == "hello"
    assert without_credentials("no s3cret, no pass%20word", "redis://h/0?password=s3cret&sentinel_password=pass%20word") == (
        "no ***, no ***"
    )
    assert without_credentials("pass word", "redis://h/0?sentinel_password=pass%20word") == "***"


def test_what_is_no_registry_url_is_told_without_its_password() -> None:
    with pytest.raises(SettingsError, match=r"'postgre-sql://me:\*\*\*@db/shop' is no registry URL"):
        parse_url("postgre-sql://me:s3cret@db/shop")


def test_no_error_about_a_store_tells_a_password() -> None:
    with pytest.raises(StoreMissing, match=r"no online store at redis://me:\*\*\*@host/0: run `fstore apply`"):
        _check_identity("online", "redis://me:s3cret@host/0", None, "an id")
    with pytest.raises(StoreMismatch, match=r"at rediss://:\*\*\*@host/0\?password=\*\*\* has id another"):
        _check_identity("online", "rediss://:s3cret@host/0?password=s3cret", "another", "an id")
    with pytest.raises(SettingsError, match=r"URL 'mysql://me:\*\*\*@host/db'"):
        _check_scheme("mysql://me:s3cret@host/db", "registry", ("sqlite", "postgresql"))
