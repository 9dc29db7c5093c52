"""Connections by name, and what of an address may be shown."""

import pytest

from fstore.backends import _check_identity, _check_scheme
from fstore.connections import connection_url, shown_address, table_address, variable_name, without_credentials
from fstore.definitions.source import PostgresSource
from fstore.errors import SettingsError, StoreMismatch, StoreMissing

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


def test_no_error_about_a_store_tells_a_password() -> None:
    with pytest.raises(StoreMissing, match=r"no online store at redis://me:\*\*\*@host/0: run `fstore apply`"):
        _check_identity("online", "redis://me:s3cret@host/0", None, "an id")
    with pytest.raises(StoreMismatch, match=r"at rediss://:\*\*\*@host/0\?password=\*\*\* has id another"):
        _check_identity("online", "rediss://:s3cret@host/0?password=s3cret", "another", "an id")
    with pytest.raises(SettingsError, match=r"URL 'mysql://me:\*\*\*@host/db'"):
        _check_scheme("mysql://me:s3cret@host/db", "registry", ("sqlite", "postgresql"))
