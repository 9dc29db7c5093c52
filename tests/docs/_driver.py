"""Executes the Python blocks of one page in one process: a JSON string per line in, what it printed or raised out."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback

names: dict[str, object] = {"__name__": "__main__"}
answers = sys.stdout
for request in sys.stdin:
    printed, error = io.StringIO(), ""
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(json.loads(request), "<block>", "exec"), names)
        except Exception:  # noqa: BLE001  (the test shows whatever it is)
            error = traceback.format_exc()
    answers.write(json.dumps({"printed": printed.getvalue(), "error": error}) + "\n")
    answers.flush()
