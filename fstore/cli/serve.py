"""The command ``serve``: turn options into settings, and become the server.

The server is a program of its own, ``python -m fstore.serving``, which takes the place of this process: so signals reach
it, and the command line knows nothing of what is served.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping


def serve_project(options: Mapping[str, object]) -> None:
    """Become the server; options that are not None win over the settings of the same name."""
    for name, value in options.items():
        if value is not None:
            os.environ[f"FSTORE_{name.upper()}"] = str(value)
    os.execv(sys.executable, [sys.executable, "-m", "fstore.serving"])  # noqa: S606 (this interpreter)
