"""Modules with a kernel or two, small enough that a schedule of them is measured in a moment."""

from __future__ import annotations

from collections.abc import Callable

import pytest

tvm = pytest.importorskip("tvm")

from tvm import relax, te, topi  # noqa: E402

from graphwright.backends.tvm.machine import this_machine  # noqa: E402
from graphwright.backends.tvm.tuning.tasks import Task, extract  # noqa: E402

Module = Callable[..., "tvm.IRModule"]


def module_of(*shapes: tuple[int, int, int], names: str = "x") -> tvm.IRModule:
    """A Relax module that multiplies matrices, one product for each (rows, inner, columns); ``names`` names its input."""
    builder = relax.BlockBuilder()
    inputs = [relax.Var(f"{names}{place}", relax.TensorType((rows, inner), "float32")) for place, (rows, inner, _) in enumerate(shapes)]
    weights = [relax.Var(f"w{place}", relax.TensorType((inner, columns), "float32")) for place, (_, inner, columns) in enumerate(shapes)]
    with builder.function("main", [*inputs, *weights]):
        products = [builder.emit_te(product, x, w) for x, w in zip(inputs, weights, strict=True)]
        builder.emit_func_output(relax.Tuple(products))
    return builder.get()


def product(x: te.Tensor, w: te.Tensor) -> te.Tensor:
    """max(0, x w)."""
    return topi.nn.relu(topi.nn.matmul(x, w))


@pytest.fixture
def target() -> tvm.target.Target:
    return this_machine()


@pytest.fixture
def task(target: tvm.target.Target) -> Task:
    """One small product."""
    return extract(module_of((16, 16, 32)), target).tasks[0]


@pytest.fixture
def make_module() -> Module:
    return module_of
