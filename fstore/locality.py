"""Which URLs mean another store on every machine.

``lmdb:.fstore/online`` and ``redis://localhost`` lead to a store of the machine that reads them. Two machines that share a
registry on a server and have such a URL have two stores, of which the registry knows one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from fstore.settings import Settings


def renews_itself(settings: Settings) -> bool:
    """Whether an empty store at the online URL is the one that the registry knows, and not that of another machine.

    It is, if the URL leads to a host of the network, or if the registry is of this machine as well. What cannot be told
    counts as no.
    """
    return not _may_be_local(settings.online_url) or _is_local(settings.registry_url)


def _may_be_local(url: str) -> bool:
    scheme = url.partition(":")[0].partition("+")[0]
    hosts = _hosts(url)
    return scheme not in ("redis", "rediss") or not hosts or any(_is_loopback(host) for host in hosts)


def _is_local(url: str) -> bool:
    if url.startswith("sqlite"):
        return True
    hosts = _hosts(url)
    return bool(hosts) and all(_is_loopback(host) for host in hosts)


def _hosts(url: str) -> list[str]:
    """Return the hosts that a URL names, none where it names none or cannot be told apart."""
    try:
        parts = urlsplit(url)
        if {"host", "hostaddr"} & {
            name for name, _ in parse_qsl(parts.query)
        } or "@" in parts.path + parts.query + parts.fragment:
            return []
        return [urlsplit(f"//{address}").hostname or "" for address in parts.netloc.rpartition("@")[2].split(",")]
    except ValueError:
        return []


def _is_loopback(host: str) -> bool:
    return host in ("", "localhost", "::1") or host.startswith("127.")
