"""Forward recorded events to an OpenLineage backend, such as Marquez, over HTTP.

The registry's record is what counts; delivery only repeats it elsewhere. Whoever drains the outbox sends each event until
it is accepted, so nothing is retried here. Only an answer about the event itself is a refusal: where the address or the key
is wrong, every event would be refused, so that one is kept as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from fstore.errors import EventRefused, StoreUnavailable

_ABOUT_THE_EVENT = (400, 409, 410, 411, 413, 415, 422, 431)
"""Answers that say that this event is not taken, whoever sends it and when."""


class LineageDelivery:
    """A connection to an OpenLineage backend. Not safe to share between threads."""

    def __init__(
        self, url: str, *, api_key: str | None = None, endpoint: str = "api/v1/lineage", timeout: float = 5.0
    ) -> None:
        # importing the transport (requests, urllib3) takes half a second, and most processes deliver nothing
        from openlineage.client.transport.http import (  # noqa: PLC0415
            ApiKeyTokenProvider,
            HttpConfig,
            HttpTransport,
            TokenProvider,
        )

        self.url = url
        self._transport = HttpTransport(
            HttpConfig(
                url=url,
                endpoint=endpoint,
                timeout=timeout,
                auth=ApiKeyTokenProvider({"api_key": api_key}) if api_key else TokenProvider({}),
                retry={"total": 0},
            )
        )

    def send(self, event: str) -> None:
        """Send one event as recorded.

        Sending an event twice does no harm: backends identify it by run, kind and time. Raises StoreUnavailable when the
        backend cannot be reached, fails, or does not let us in (retry later), EventRefused when it does not take this event.
        """
        import requests  # noqa: PLC0415  (as above)

        try:
            self._transport.emit(json.loads(event))
        except requests.HTTPError as error:
            response = error.response
            if response is None:
                raise
            answer = f"answered {response.status_code} {response.reason}".rstrip()
            if response.status_code in _ABOUT_THE_EVENT:
                raise EventRefused(
                    f"the OpenLineage backend at {self.url} refuses an event: it {answer}: {response.text[:200]}"
                ) from error
            hint = (
                ""
                if response.status_code >= 500 or response.status_code in (408, 429)
                else (". Check OPENLINEAGE_URL, OPENLINEAGE_ENDPOINT and OPENLINEAGE_API_KEY")
            )
            raise StoreUnavailable(f"the OpenLineage backend at {self.url} {answer}; the event is kept{hint}") from error
        except requests.RequestException as error:
            raise StoreUnavailable(
                f"the OpenLineage backend at {self.url} cannot be reached ({type(error).__name__}); the event is kept"
            ) from error

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


def open_delivery(environ: Mapping[str, str] | None = None) -> LineageDelivery | None:
    """Return a delivery to the backend that OpenLineage's own variables name, or None where there is none.

    Reads OPENLINEAGE_URL, OPENLINEAGE_ENDPOINT and OPENLINEAGE_API_KEY; OPENLINEAGE_DISABLED=true switches it off.
    """
    environ = os.environ if environ is None else environ
    url = environ.get("OPENLINEAGE_URL", "").strip()
    if not url or environ.get("OPENLINEAGE_DISABLED", "").lower() == "true":
        return None
    return LineageDelivery(
        url,
        api_key=environ.get("OPENLINEAGE_API_KEY") or None,
        endpoint=environ.get("OPENLINEAGE_ENDPOINT") or "api/v1/lineage",
    )
