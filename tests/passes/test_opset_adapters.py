"""Every adapter, on a model of the opset just below its step: the raised model computes what the old one did."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.reasons import Reasons
from graphwright.compiler.core.wellformed import check
from graphwright.passes.cleanup.opset import NormaliseOpset
from graphwright.passes.cleanup.opset_adapters.climb import adapters, versions
from graphwright.passes.cleanup.opset_adapters.step import EXPERIMENTAL

from . import adapters_of_later as later
from . import adapters_of_old as old
from .adapter_case import Case, build, fill, matrixwise

CASES = [
    *old.legacy(), *later.recurrent(), *old.broadcasts(), *old.inputs(), *later.clips(), *later.normalisations(), *later.resizes(),
    *later.scans(), *later.experiments(),
    *matrixwise("Softmax"), *matrixwise("LogSoftmax"), *matrixwise("Hardmax"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_raised_model_computes_what_the_old_one_did(case: Case, run_onnx, assert_same_bits) -> None:
    model = build(case)
    before = ir.to_proto(model)
    context = Context(reasons=Reasons())
    assert NormaliseOpset().run(model, context) == 1, [miss.reason for miss in context.reasons.misses]
    assert model.graph.opset_imports == {"": 21} and model.ir_version >= 10
    check(model)
    onnx.shape_inference.infer_shapes(ir.to_proto(model), check_type=True, strict_mode=True)
    generator = np.random.default_rng(0)
    for special in (False, True):
        feeds = {value.name: case.feeds.get(value.name, fill(value, generator, special)) for value in model.graph.inputs}
        after = run_onnx(model, feeds)
        if case.rounds:
            eps = np.finfo(after["y"].dtype).eps
            np.testing.assert_allclose(after["y"], run_onnx(before, feeds)["y"], rtol=4 * eps, atol=eps)
        elif case.expected is None:
            assert_same_bits(run_onnx(before, feeds), after)
        elif not special:
            with np.errstate(invalid="ignore"):
                _assert_near(case.expected(*feeds.values()), list(after.values()))
    assert NormaliseOpset().run(model, Context()) == 0


def _assert_near(expected: object, outputs: list[np.ndarray]) -> None:
    wanted = expected if isinstance(expected, tuple) else (expected,)
    for want, have in zip(wanted, outputs, strict=True):
        assert np.shape(want) == have.shape
        np.testing.assert_allclose(have, want, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("case", [case for case in CASES if case.expected is not None], ids=str)
def test_formula_stands_in_only_where_there_is_no_kernel(case: Case, run_onnx) -> None:
    model = build(case)
    feeds = {value.name: case.feeds.get(value.name, fill(value, np.random.default_rng(0), False)) for value in model.graph.inputs}
    with pytest.raises(NoKernel):
        run_onnx(model, feeds)


def test_every_adapter_has_a_case() -> None:
    assert set(adapters()) == {(case.op, case.step) for case in CASES}


def test_every_adapter_stands_at_a_version_of_its_operator() -> None:
    assert all(version == EXPERIMENTAL or version in versions()[op] for op, version in adapters())
