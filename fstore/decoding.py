"""JSON into structs, from whichever thread.

msgspec works out how a struct is decoded when it is first asked to, and while one thread does so another that asks for the
same struct uses what is half done, which ends the process. So decoders are made one at a time, and kept. Errors are those of
msgspec.
"""

from __future__ import annotations

import os
import threading
from typing import Any, TypeVar

import msgspec

Decoded = TypeVar("Decoded")

_MAKING = threading.Lock()
_made: dict[object, msgspec.json.Decoder[Any]] = {}
os.register_at_fork(before=_MAKING.acquire, after_in_parent=_MAKING.release, after_in_child=_MAKING.release)


def json_decoder(kind: type[Decoded]) -> msgspec.json.Decoder[Decoded]:
    """Return the decoder of a type, made when it is first asked for. Waits for other threads that make one."""
    decoder = _made.get(kind)
    if decoder is None:
        with _MAKING:
            decoder = _made.get(kind)
            if decoder is None:
                decoder = _made[kind] = msgspec.json.Decoder(kind)
    return decoder


def decode_json(text: str | bytes, kind: type[Decoded]) -> Decoded:
    """Return the value of a type that a text holds. Raises msgspec.DecodeError for any other text."""
    return json_decoder(kind).decode(text)
