"""A model with other weights computes with those, and nothing else about it changes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphwright.compiler.core.errors import UsageError
from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.sites import all_sites
from graphwright.compiler.serialize import to_bytes
from graphwright.compiler.substitution import substitute_weights
from graphwright.models.session import Plain, only

SHARED = """
<ir_version: 10, opset_import: ["" : 21]>
twice (float[n, 3] x) => (float[n, 3] y)
<float[3, 3] w = {1,2,3, 4,5,6, 7,8,9}>
{ a = MatMul(x, w) y = Gemm<transB = 1>(a, w) }
"""
CONV = """
<ir_version: 10, opset_import: ["" : 21]>
conv (float[n, 4, 5, 5] x) => (float[n, 6, 5, 5] y)
{ y = Conv<group = 2, pads = [1, 1, 1, 1]>(x, w) }
"""


def read(text: str, **weights: np.ndarray) -> ir.Model:
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    model = ir.from_proto(proto)
    bind_opsets(model)
    return model


def run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    return only(Plain(to_bytes(model)).run({"x": x}))


def test_one_of_two_sites_that_share_a_weight_gets_another() -> None:
    model, x = read(SHARED), np.eye(3, dtype=np.float32)
    before = run(model, x)
    other = substitute_weights(model, {"y": 2 * next(site for site in all_sites(model) if site.name == "y").matrices()})
    np.testing.assert_array_equal(run(other, x), 2 * before)
    np.testing.assert_array_equal(run(model, x), before)


def test_grouped_kernels_go_back_where_they_came_from_in_their_own_dtype() -> None:
    weight = np.random.default_rng(0).standard_normal((6, 2, 3, 3)).astype(np.float32)
    x = np.random.default_rng(1).standard_normal((2, 4, 5, 5)).astype(np.float32)
    model = read(CONV, w=weight)
    (site,) = all_sites(model)
    same = substitute_weights(model, {site.name: site.matrices().astype(np.float64)})
    np.testing.assert_array_equal(run(same, x), run(model, x))


def test_what_is_no_site_or_has_another_shape_is_refused() -> None:
    model = read(SHARED)
    with pytest.raises(UsageError, match="no site 'z'"):
        substitute_weights(model, {"z": np.zeros((1, 3, 3), np.float32)})
    with pytest.raises(UsageError, match=r"shape \[1, 3, 3\], not \[3, 3\]"):
        substitute_weights(model, {"a": np.zeros((3, 3), np.float32)})
