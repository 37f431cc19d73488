"""How long operators take as one kernel is measured once, and the plan goes by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

pytest.importorskip("tvm")

from graphwright.backends.tvm.backend import TvmBackend  # noqa: E402
from graphwright.backends.tvm.building import fused_module, kernels_of  # noqa: E402
from graphwright.compiler.profile_database import FILE, Measuring, ProfileDatabase  # noqa: E402

OPEN = "g (float[8,16] x, float[16,16] w) => (float[16,8] y) { m = MatMul(x, w) y = Transpose(m) }"
"""Many-to-Many, then Shuffle: the table says to measure."""


class Told:
    """A profile that prefers fused kernels, or separate ones."""

    def __init__(self, together: bool) -> None:
        self.together = together

    def cost(self, nodes: Sequence[ir.Node]) -> float | None:
        return 1.0 if self.together else float(len(nodes) ** 2)


@pytest.mark.parametrize(("together", "kernels"), [(True, 1), (False, 2)])
def test_the_plan_goes_by_what_was_measured(model: Callable[..., ir.Model], together: bool, kernels: int) -> None:
    assert len(kernels_of(fused_module(model(OPEN), profile=Told(together)))) == kernels


def test_several_kernels_have_no_time_as_one(model: Callable[..., ir.Model]) -> None:
    backend = TvmBackend()
    assert backend.kernel_seconds(model("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }")) is None
    assert backend.kernel_seconds(model("g (float[4] x) => (float[4] y) <int64[1] k = {4}> { y, i = TopK(x, k) }")) is None


def test_kernels_are_measured_once(model: Callable[..., ir.Model], tmp_path: Path) -> None:
    asked: list[str] = []

    def compiled() -> None:
        backend = TvmBackend()
        database = ProfileDatabase(tmp_path / FILE, "tvm-cpu", backend.runtime())

        def measure(small: ir.Model) -> float | None:
            asked.append("+".join(node.op_type for node in small.graph))
            return backend.kernel_seconds(small)

        built = backend.profiled(Measuring(database, measure)).build(model(OPEN), (), lambda text: None)
        with built.runner as runner:
            x, w = (np.random.default_rng(0).normal(size=size).astype(np.float32) for size in ((8, 16), (16, 16)))
            np.testing.assert_allclose(runner.run({"x": x, "w": w})["y"], (x @ w).T, rtol=1e-5, atol=1e-5)
        assert {item.operators for item in database.measurements()} == {"MatMul", "Transpose", "MatMul+Transpose"}
        assert all(item.seconds > 0 for item in database.measurements())

    compiled()
    assert sorted(asked) == ["MatMul", "MatMul+Transpose", "Transpose"]
    compiled()
    assert len(asked) == 3
