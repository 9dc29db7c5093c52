"""Where files are: a local path or an ``s3://`` URL as a ``pyarrow`` file system and a path on it.

Takes credentials, region and endpoint of S3 from the usual ``AWS_*`` environment variables and nowhere else. Opens no file.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import pyarrow.fs as pafs

from fstore.errors import SettingsError


def is_remote(url: str) -> bool:
    """Whether a path is an ``s3://`` URL rather than a local path."""
    return url.startswith("s3://")


def open_filesystem(url: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system of an ``s3://bucket/prefix`` URL or an absolute local path, and the path on it.

    Costs a client on first use of S3, and connects to nothing. Raises SettingsError when the URL has no bucket or the
    installed pyarrow cannot speak S3.
    """
    if not is_remote(url):
        return pafs.LocalFileSystem(), str(Path(url))
    path = url.removeprefix("s3://").strip("/")
    if not path:
        raise SettingsError(f"{url!r} names no bucket: write s3://bucket/prefix")
    return _s3(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", ""), _region(), os.getpid()), path


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION", "")


@lru_cache(maxsize=8)
def _s3(endpoint: str, region: str, _process: int) -> pafs.FileSystem:
    """Return a client for an endpoint; one per process, because a client does not survive a fork."""
    if not hasattr(pafs, "S3FileSystem"):
        raise SettingsError(
            "the installed pyarrow was built without S3 and cannot read s3:// URLs: install the one from PyPI"
        )
    options: dict[str, object] = {"connect_timeout": 10.0, "request_timeout": 30.0}
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        options |= {"endpoint_override": host.rstrip("/"), "scheme": scheme or "https"}
    if endpoint or region:
        options["region"] = region or "us-east-1"
    return pafs.S3FileSystem(**options)
