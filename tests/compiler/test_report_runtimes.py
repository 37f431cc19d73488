"""The report names every runtime that was tried, and why one was not."""

from __future__ import annotations

import pytest

from graphwright.compiler.core.backend import Rival
from graphwright.compiler.report import runtime_entries
from graphwright.compiler.report_table import runtime_line

FAILED = Rival("mixed", failure="it does not compute what the model does: 'y' is off by 1, 0.1 is allowed")


@pytest.mark.parametrize(
    ("rival", "line"),
    [
        (Rival("onnxruntime", 0.0015), "runtime   onnxruntime: 1.5 ms"),
        (Rival("onnxruntime", 0.0015, chosen=True), "runtime   onnxruntime: 1.5 ms; it ships"),
        (Rival("tvm", 0.003, 2.0, 1.9, 2.1), "runtime   tvm: 3 ms, 2.00 of onnxruntime's time (1.90 to 2.10)"),
        (Rival("mixed", 0.001, 0.667, 0.6, 0.7, True), "runtime   mixed: 1 ms, 0.67 of onnxruntime's time (0.60 to 0.70); it ships"),
        (FAILED, f"runtime   mixed: {FAILED.failure}"),
    ],
    ids=["usual", "usual ships", "slower", "ships", "failed"],
)
def test_a_runtime_is_told_in_one_line(rival: Rival, line: str) -> None:
    (entry,) = runtime_entries([rival])
    assert runtime_line(entry) == line
