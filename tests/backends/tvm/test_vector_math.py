"""exp, erf and tanh of generated code: right to a few units in the last place, everywhere."""

import math

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

from graphwright.backends.tvm.vector_math import legalisations  # noqa: E402

STRANGE = np.float32([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, -1e-30, 88.72, 88.73, -87.4, -103.0, -104.5])
NUMBERS = np.concatenate([np.linspace(-110, 95, 100_001, dtype=np.float32), np.random.default_rng(0).normal(size=50_000).astype(np.float32) * 3, STRANGE])


def computed(name: str, *arguments: object) -> np.ndarray:
    from tvm import relax

    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType([len(NUMBERS)], "float32"))
    operator = getattr(relax.op, name, None) or getattr(relax.op.nn, name)
    with builder.function("main", [x]):
        builder.emit_func_output(builder.emit(operator(x, *arguments)))
    module = relax.transform.LegalizeOps(legalisations())(builder.get())
    machine = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())
    return machine["main"](tvm.runtime.tensor(NUMBERS)).numpy()


@pytest.mark.parametrize(
    ("name", "meant", "units"),
    [("exp", np.exp, 2), ("tanh", np.tanh, 8), ("erf", np.vectorize(math.erf), 8)],
)
def test_a_function_is_right_to_a_few_units_in_the_last_place(name, meant, units):
    with np.errstate(over="ignore"):
        expected = meant(NUMBERS.astype(np.float64))
        single = expected.astype(np.float32)
    found = computed(name)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(single))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(single))
    finite = np.isfinite(single)
    assert (np.abs(found[finite] - expected[finite]) <= units * np.spacing(np.abs(single[finite]))).all()


def test_sigmoid_saturates_and_keeps_nan():
    found = computed("sigmoid")
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(found, 1 / (1 + np.exp(-NUMBERS.astype(np.float64))), rtol=0, atol=2e-7)
    assert np.isnan(found[NUMBERS != NUMBERS]).all()
