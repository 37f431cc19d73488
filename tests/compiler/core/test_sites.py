"""Sites: which operators count, and that a weight comes back as it was stored."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
import pytest

from graphwright.compiler.core.sites import all_sites

HEADER = '<ir_version: 10, opset_import: ["" : 21]>'


def model_of(text: str, **weights: np.ndarray) -> ir.Model:
    """A model in ONNX text with these initialisers."""
    proto = onnx.parser.parse_model(f"{HEADER}\n{text}")
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(content, name) for name, content in weights.items())
    return ir.from_proto(proto)


def numbers(*shape: int) -> np.ndarray:
    """Float32, all different."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize(
    ("text", "shape", "matrix"),
    [
        ("agraph (float[2,3] x) => (float[2,4] y) { y = MatMul(x, w) }", (3, 4), (1, 3, 4)),
        ("agraph (float[3,2] x) => (float[4,2] y) { y = MatMul(w, x) }", (4, 3), (1, 3, 4)),
        ("agraph (float[2,3] x) => (float[2,4] y) { y = Gemm<transB=1>(x, w) }", (4, 3), (1, 3, 4)),
        ("agraph (float[2,3] x) => (float[2,4] y) { y = Gemm(x, w) }", (3, 4), (1, 3, 4)),
        ("agraph (float[1,4,5,5] x) => (float[1,6,3,3] y) { y = Conv<group=2>(x, w) }", (6, 2, 3, 3), (2, 18, 3)),
        ("agraph (float[1,4,5,5] x) => (float[1,6,7,7] y) { y = ConvTranspose<group=2>(x, w) }", (4, 3, 3, 3), (2, 2, 27)),
        ("agraph (int64[2] x) => (float[2,4] y) { y = Gather(w, x) }", (7, 4), (1, 7, 4)),
    ],
)
def test_a_weight_comes_back_as_it_was_stored(text: str, shape: tuple[int, ...], matrix: tuple[int, ...]) -> None:
    weight = numbers(*shape)
    (site,) = all_sites(model_of(text, w=weight))
    found = site.matrices()
    assert found.shape == matrix
    assert np.array_equal(site.stored(found), weight)


def test_an_unfolded_convolution_is_the_product_of_its_patches() -> None:
    weight = np.random.default_rng(0).normal(size=(6, 2, 3, 3)).astype(np.float32)
    model = model_of("agraph (float[1,4,3,3] x) => (float[1,6,1,1] y) { y = Conv<group=2>(x, w) }", w=weight)
    (site,) = all_sites(model)
    x = np.random.default_rng(1).normal(size=(1, 4, 3, 3)).astype(np.float32)
    expected = onnx.reference.ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x})[0].reshape(2, 3)
    patches = x.reshape(2, 1, 18)
    np.testing.assert_allclose((patches @ site.matrices())[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "agraph (float[2,3] x, float[3,4] w) => (float[2,4] y) { y = MatMul(x, w) }",
        "agraph (float[3,2] x) => (float[2,4] y) { y = Gemm<transA=1>(x, w) }",
        "agraph (int64[2] x) => (float[3,2] y) { y = Gather<axis=1>(w, x) }",
        "agraph (float[3,4] x) => (float[3,4] y) { y = Mul(x, w) }",
    ],
)
def test_what_has_no_constant_matrix_is_no_site(text: str) -> None:
    weights = {} if "float[3,4] w" in text else {"w": numbers(3, 4)}
    assert not list(all_sites(model_of(text, **weights)))


def test_integers_are_no_site() -> None:
    model = model_of("agraph (int32[2,3] x) => (int32[2,4] y) { y = MatMul(x, w) }", w=numbers(3, 4).astype(np.int32))
    assert not list(all_sites(model))
