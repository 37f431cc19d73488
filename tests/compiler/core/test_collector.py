"""The collector runs seldom while graphs are worked on, and as before afterwards."""

from __future__ import annotations

import gc

import pytest

from graphwright.compiler.core.collector import SELDOM, seldom_collecting


def test_the_thresholds_are_put_back_even_after_an_error() -> None:
    before = gc.get_threshold()
    with pytest.raises(ZeroDivisionError), seldom_collecting():
        assert gc.get_threshold() == SELDOM
        raise ZeroDivisionError
    assert gc.get_threshold() == before
    assert gc.isenabled()
