"""A graph with simulated rounding computes what the same rounding in numpy computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.errors import InputError
from graphwright.compiler.core.graph import bind_opsets, clone_model
from graphwright.compiler.core.sites import all_sites
from graphwright.passes.quantize.activation import ActivationGrid, Ranges
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.method import find_method
from graphwright.passes.quantize.simulate import round_inputs, round_weights

Run = Callable[..., dict[str, np.ndarray]]
TEXT = '<ir_version: 10, opset_import: ["" : 21]> m (float[N,T,6] x) => (float[N,T,4] y, float[N,T,4] z) { y = MatMul(x, w) z = MatMul(x, v) }'


def model() -> ir.Model:
    proto = onnx.parser.parse_model(TEXT)
    rng = np.random.default_rng(0)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(rng.standard_normal((6, 4), dtype=np.float32), name) for name in ("w", "v"))
    found = ir.from_proto(proto)
    bind_opsets(found)
    return found


def samples(count: int = 3) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.standard_normal((2, 5, 6), dtype=np.float32) + 0.4} for _ in range(count)]


def calibrator(of: ir.Model) -> Engine:
    return Engine(open_calibration(samples(), of), OrtBackend())


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("token", [False, True])
def test_inputs_are_rounded_as_the_grid_says(bits: int, symmetric: bool, token: bool, run_onnx: Run) -> None:
    before, after = model(), model()
    grid = ActivationGrid(bits, symmetric, token)
    assert round_inputs(after, grid, calibrator(before)) == 1
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    seen = np.concatenate([sample["x"].reshape(-1, 6) for sample in samples()])
    x = samples()[1]["x"]
    rounded = grid.rounded(x.reshape(-1, 6), Ranges(np.array([seen.min()], np.float64), np.array([seen.max()], np.float64)))
    expected = run_onnx(before, {"x": rounded.reshape(x.shape).astype(np.float32)})
    found = run_onnx(after, {"x": x})
    for name in ("y", "z"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4)


def test_zeros_and_a_constant_stay_what_they_are(run_onnx: Run) -> None:
    for token in (False, True):
        after = model()
        round_inputs(after, ActivationGrid(4, token=token), calibrator(model()))
        assert not run_onnx(after, {"x": np.zeros((1, 2, 6), np.float32)})["y"].any()


def test_weights_become_what_the_method_makes_of_them() -> None:
    after = model()
    grid, rtn = Grid(4), find_method("rtn")()
    assert round_weights(after, rtn, grid) == 2
    for old, new in zip(all_sites(model()), all_sites(after), strict=True):
        np.testing.assert_array_equal(new.matrices()[0], rtn.quantize(old.matrices()[0], None, grid).matrix())


def test_only_the_sites_that_are_named_are_rounded() -> None:
    after = model()
    first = next(all_sites(after))
    kept = [site for site in all_sites(after) if site.name != first.name]
    assert round_weights(after, find_method("rtn")(), Grid(4), sites=[first]) == 1
    assert round_inputs(after, ActivationGrid(8, token=True), sites=[first]) == 1
    assert [site.data.name for site in kept] == ["x"]
    assert first.data.name != "x"


def test_calibration_data_is_asked_for_where_it_is_needed() -> None:
    with pytest.raises(InputError, match="static grid"):
        round_inputs(model(), ActivationGrid(8))
    with pytest.raises(InputError, match="gptq"):
        round_weights(model(), find_method("gptq")(), Grid(4))
    copy = clone_model(model())
    assert round_weights(copy, find_method("gptq")(), Grid(4), calibrator(model())) == 2


TIED = """
<ir_version: 10, opset_import: ["" : 21]>
m (int64[N,T] ids) => (float[N,T,8] logits) { x = Gather(w, ids)  w_turned = Transpose<perm = [1, 0]>(w)  logits = MatMul(x, w_turned) }
"""


def test_a_head_that_shares_its_weight_with_the_embedding_is_rounded_too_and_the_embedding_stays(run_onnx: Run) -> None:
    proto = onnx.parser.parse_model(TIED)
    table = np.random.default_rng(2).standard_normal((8, 6)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(table, "w"))
    after = ir.from_proto(proto)
    bind_opsets(after)
    weights, inputs = Grid(4), ActivationGrid(4, token=True)
    assert round_weights(after, find_method("rtn")(), weights) == 1
    assert round_inputs(after, inputs) == 1
    ids = np.array([[0, 3, 7, 2]])
    nothing = Ranges(np.zeros(1), np.zeros(1))
    expected = inputs.rounded(table[ids[0]], nothing) @ find_method("rtn")().quantize(np.ascontiguousarray(table.T), None, weights).matrix()
    np.testing.assert_allclose(run_onnx(after, {"ids": ids})["logits"][0], expected, rtol=1e-4, atol=1e-4)
