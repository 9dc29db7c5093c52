"""``python -m fstore.serving``: run the server with the settings of the environment, until SIGTERM or SIGINT.

Binds the port once and shares it between the workers. Which host, port and limits, the settings say; ``fstore serve`` turns
its options into settings and becomes this process.
"""

from __future__ import annotations

import os
import sys
import tempfile

from fstore.errors import FStoreError, SettingsError
from fstore.retrieval.client_settings import client_settings

_WORKER_SECONDS = 60
"""For how long a worker may be silent before it is replaced: importing everything takes long where the machine is busy."""

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "text": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
        "bare": {"format": "%(message)s"},
    },
    "handlers": {
        "text": {"class": "logging.StreamHandler", "formatter": "text"},
        "bare": {"class": "logging.StreamHandler", "formatter": "bare"},
    },
    "loggers": {
        "uvicorn": {"handlers": ["text"], "level": "INFO", "propagate": False},
        "fstore.serving": {"handlers": ["text"], "level": "INFO", "propagate": False},
        "fstore.serving.access": {"handlers": ["bare"], "level": "INFO", "propagate": False},
    },
}


def main() -> None:
    """Serve until told to stop."""
    settings = client_settings(None)
    try:
        import uvicorn  # noqa: PLC0415 (an optional dependency)

        from fstore.serving.app import METRICS_VARIABLE  # noqa: PLC0415 (it needs FastAPI)
        from fstore.serving.connections import Connection  # noqa: PLC0415 (it needs uvicorn)
    except ModuleNotFoundError as error:
        raise SettingsError(f"the server needs {error.name}: pip install 'fstore[serve]'") from None
    with tempfile.TemporaryDirectory(prefix="fstore-metrics-") as metrics:
        os.environ[METRICS_VARIABLE] = metrics
        uvicorn.run(
            "fstore.serving.app:create_app", factory=True, host=settings.serve_host, port=settings.serve_port,
            http=Connection, workers=settings.serve_workers, log_config=LOGGING, access_log=False, server_header=False,
            proxy_headers=settings.serve_access_log,
            timeout_graceful_shutdown=max(1, round(settings.serve_timeout)), timeout_keep_alive=75,
            timeout_worker_healthcheck=_WORKER_SECONDS,
        )  # fmt: skip


if __name__ == "__main__":
    try:
        main()
    except FStoreError as error:
        sys.exit(f"error {error.code} {error}")
