"""The collector's setting, which is the process's own again after the last block."""

from __future__ import annotations

import gc

import pytest

from fstore.runtime.garbage import rarely_collected


def test_the_setting_is_back_after_the_last_of_nested_blocks() -> None:
    before = gc.get_threshold()
    with rarely_collected():
        inside = gc.get_threshold()
        with rarely_collected():
            pass
        assert gc.get_threshold() == inside
    assert inside[0] > before[0]
    assert gc.get_threshold() == before


def test_an_error_leaves_the_setting_as_it_was() -> None:
    before = gc.get_threshold()
    with pytest.raises(ValueError, match="broken"), rarely_collected():
        raise ValueError("broken")
    assert gc.get_threshold() == before
