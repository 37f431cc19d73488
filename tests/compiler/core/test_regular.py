"""Forms: what is claimed of a value from its position alone is what it holds, for every size."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.regular import Forms
from graphwright.compiler.core.shapes import infer_shapes

CONSTANTS = "int64 o = {0}, int64 i = {1}, int64 t = {3}, int64[1] a0 = {0}, int64[1] a1 = {1}, int64[1] last = {-1}, int64[1] many = {9223372036854775807}"
KNOWN = {
    "a range": "y = Range(t, l, i)",
    "a slice of a range": "r = Range(o, l, i) y = Slice(r, a1, many, a0)",
    "every third": "r = Range(t, l, i) k = Unsqueeze(t, a0) y = Slice(r, a1, many, a0, k)",
    "rows of ranges": "r = Range(o, l, i) n = Shape(x) y = Expand(r, n)",
    "columns": "r = Range(o, l, i) u = Unsqueeze(r, a1) y = Transpose<perm=[1,0]>(u)",
    "a sum of rows and columns": "r = Range(t, l, i) u = Unsqueeze(r, a1) v = Unsqueeze(r, a0) y = Add(u, v)",
    "rows less columns": "r = Range(t, l, i) u = Unsqueeze(r, a1) v = Unsqueeze(r, a0) y = Sub(u, v)",
    "a constant": "n = Shape(x) y = Expand(t, n)",
    "counting on": "r = Range(o, l, i) h = Slice(r, a0, a1, a0) m = Sub(h, i) y = Concat<axis=0>(m, r)",
    "always one apart": "r = Range(o, l, i) h = Slice(r, a0, a1, a0) m = Sub(h, i) c = Concat<axis=0>(m, r) n = Unsqueeze(l, a0) l1 = Add(n, a1)"
    " p = Slice(c, a0, n, a0) q = Slice(c, a1, l1, a0) d = Sub(q, p) e = Equal(d, i) f = Not(e) g = Cast<to=7>(f) y = CumSum(g, o)",
    "never below": "r = Range(o, l, i) c = GreaterOrEqual(r, o) y = Cast<to=7>(c)",
    "always below": "r = Range(o, l, i) n = Sub(i, r) m = Sub(n, t) c = Less(m, r) y = Cast<to=7>(c)",
    "never equal": "r = Range(t, l, i) u = Unsqueeze(r, a1) v = Add(u, r) c = Equal(v, i) y = Cast<to=7>(c)",
    "nowhere": "r = Range(o, l, i) c = Less(r, r) f = Cast<to=7>(c) y = CumSum(f, o)",
}
UNKNOWN = {
    "an input": "y = Identity(z)",
    "a square": "r = Range(o, l, i) y = Mul(r, r)",
    "an unknown start": "y = Range(l, t, i)",
    "backwards from the end": "r = Range(o, l, i) y = Slice(r, last, many, a0)",
    "a column that may be one wide": "r = Range(o, l, i) y = Add(r, z)",
    "another order": "r = Range(o, l, i) h = Slice(r, a0, a1, a0) y = Concat<axis=0>(h, r)",
    "sometimes equal": "r = Range(o, l, i) c = Equal(r, t) y = Cast<to=7>(c)",
    "sometimes above": "r = Range(o, l, i) c = Greater(r, o) y = Cast<to=7>(c)",
    "the lower triangle": "r = Range(o, l, i) u = Unsqueeze(r, a1) c = LessOrEqual(r, u) y = Cast<to=7>(c)",
    "a count": "n = Shape(x) e = Expand(i, n) y = CumSum(e, o)",
}


def model_of(body: str) -> ir.Model:
    length = "s = Shape<start=1, end=2>(x) l = Squeeze(s)"
    text = f'<ir_version: 10, opset_import: ["" : 21]>\ng (float[N,L] x, int64[M] z) => (int64 y) <{CONSTANTS}> {{ {length} {body} }}'
    model = ir.from_onnx_text(text)
    model.graph.outputs[0].shape = None
    bind_opsets(model)
    infer_shapes(model)
    return model


@pytest.mark.parametrize("body", KNOWN.values(), ids=KNOWN)
def test_a_form_is_what_the_model_computes(body: str) -> None:
    model = model_of(body)
    form = Forms().of(model.graph.outputs[0])
    assert form is not None
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    for n, length in ((1, 1), (2, 1), (1, 2), (3, 7), (2, 0)):
        (found,) = session.run(None, {"x": np.zeros((n, length), np.float32), "z": np.zeros(2, np.int64)})
        wanted = np.full(found.shape, int(form.offset))
        for step, index in zip(form.steps, np.indices(found.shape), strict=True):
            wanted += step * index
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("body", UNKNOWN.values(), ids=UNKNOWN)
def test_nothing_is_claimed_of_what_the_position_does_not_tell(body: str) -> None:
    assert Forms().of(model_of(body).graph.outputs[0]) is None


def test_a_chain_needs_no_recursion() -> None:
    body = "r0 = Range(o, l, i) " + " ".join(f"r{index + 1} = Add(r{index}, i)" for index in range(3000)) + " y = Identity(r3000)"
    form = Forms().of(model_of(body).graph.outputs[0])
    assert form is not None and int(form.offset) == 3000
