"""A model run block by block shows the same values as run whole, and runs no block twice."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration import stages as module
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.calibration.probe import main_values
from graphwright.compiler.calibration.stages import Stages
from graphwright.compiler.core.backend import Runner

from .graphs import read

WHOLE = """<ir_version: 9, opset_import: ["" : 17]>
g (float[n, 4] x, bool c, float[4] bias) => (float[n, 4] y, float[n, 2] right) <float[4] one = {1, 1, 1, 1}, int64[2] half = {2, 2}> {
  k = Add(one, one)
  a = Mul(x, k)
  dead = Neg(a)
  left, right = Split<axis = 1>(a, half)
  b = Concat<axis = 1>(left, right)
  d = If (c) <then_branch = one_branch () => (float[n, 4] p) { p = Add(a, bias) }, else_branch = other () => (float[n, 4] q) { q = Identity(b) }>
  e = Mul(d, k)
  f = Add(e, x)
  y = Sub(f, b)
}"""
ORDERS: list[list[list[str]]] = [
    [["a"], ["b"], ["d"], ["e"], ["f"], ["y"]],
    [["a", "dead"], ["left", "e"], ["y", "right"]],
    [["f"], ["a"], ["y"], ["x"]],
    [["k"], ["b"], ["dead", "k"], ["one", "y"]],
]


def samples() -> list[dict[str, np.ndarray]]:
    """Both ways through the branch."""
    rng = np.random.default_rng(0)
    return [
        {"x": rng.standard_normal((size, 4), dtype=np.float32), "c": np.array(size > 2), "bias": rng.standard_normal(4, dtype=np.float32)} for size in (1, 3, 2)
    ]


class Opener:
    """Opens runners, and remembers the operators of each model but those that only measure."""

    def __init__(self) -> None:
        self.opened: list[list[str]] = []

    def __call__(self, model: ir.Model) -> Runner:
        operators = [node.op_type for node in model.graph]
        if "Shape" not in operators:
            self.opened.append(operators)
        return OrtBackend().reference(model)


def shown(model: ir.Model, groups: Sequence[Sequence[str]]) -> tuple[dict[str, list[np.ndarray]], Opener]:
    """All values of all samples, by name."""
    opener = Opener()
    stages = Stages(model, open_calibration(samples(), model), opener, 1 << 20)
    found: dict[str, list[np.ndarray]] = {}
    for place, group in enumerate(groups):
        later = {name for other in groups[place + 1 :] for name in other}
        stages.run(group, later, 1 << 20, lambda _: None, lambda name, array: found.setdefault(name, []).append(array.copy()))
    stages.close()
    return found, opener


@pytest.mark.parametrize("memory", [0, 1 << 20])
@pytest.mark.parametrize("groups", ORDERS, ids=str)
def test_blocks_show_what_the_whole_model_shows(groups: list[list[str]], memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEMORY_BYTES", memory)
    model = read(WHOLE)
    found, _ = shown(model, groups)
    names = list(dict.fromkeys(name for group in groups for name in group))
    expected, _ = shown(model, [names])
    for name in names:
        for whole, part in zip(expected[name], found[name][:3], strict=True):
            np.testing.assert_array_equal(whole, part)
    assert set(main_values(model)) >= set(names)


def test_no_block_runs_twice() -> None:
    _, opener = shown(read(WHOLE), [["a"], ["b"], ["d"], ["y"]])
    assert opener.opened[0] == ["Add", "Mul"]
    assert opener.opened[1] == ["Split", "Concat"]
    assert opener.opened[2] == ["If"]
    assert opener.opened[3] == ["Add", "Mul", "Add", "Sub"]  # What no input has a part in is computed again, not put aside.


def test_files_are_removed_when_the_last_block_has_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module, "MEMORY_BYTES", 0)
    shown(read(WHOLE), [["a"], ["b"], ["y"]])
    assert not list(tmp_path.iterdir())


def test_without_room_every_group_starts_from_the_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.Store, "has_room", lambda self, size: False)
    found, opener = shown(read(WHOLE), [["a"], ["b"], ["y"]])
    expected, _ = shown(read(WHOLE), [["a", "b", "y"]])
    assert [len(operators) for operators in opener.opened] == [2, 4, 8]
    for name, arrays in expected.items():
        for whole, part in zip(arrays, found[name], strict=True):
            np.testing.assert_array_equal(whole, part)
