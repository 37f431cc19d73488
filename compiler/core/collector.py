"""The garbage collector, while graphs are built and copied by the hundred thousand objects, nearly all of which stay."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

SELDOM = (700_000, 20, 20)
"""Collect the youngest after this many new objects, instead of after several hundred."""


@contextlib.contextmanager
def seldom_collecting() -> Iterator[None]:
    """Let the collector run seldom inside; how it was set before is put back. Looking through live graphs again and again took a third of the time."""
    before = gc.get_threshold()
    gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*before)
