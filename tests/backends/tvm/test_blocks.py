"""Each planned block becomes one kernel, and computes what its operators compute."""

import numpy as np
import onnx_ir as ir
import pytest

pytest.importorskip("tvm")

from graphwright.backends.ort.reference import open_reference  # noqa: E402
from graphwright.backends.tvm.build import build_model  # noqa: E402
from graphwright.backends.tvm.building import fused_module, kernels_of  # noqa: E402
from graphwright.backends.tvm.machine import cpu_target, this_machine  # noqa: E402
from graphwright.backends.tvm.options import Options  # noqa: E402
from graphwright.backends.tvm.planned import mark_plan  # noqa: E402
from graphwright.backends.tvm.prepare import BLOCK, prepare  # noqa: E402
from graphwright.compiler.core.passes import Context  # noqa: E402
from graphwright.passes.planning.plan_fusion import PlanFusion  # noqa: E402

HEADER = '<ir_version: 10, opset_import: ["" : 21, "graphwright.block" : 1]>\n'
FUNCTION = '<domain: "graphwright.block", opset_import: ["" : 21]>\n'

CONV_TRANSPOSE = (
    "g (float[1,3,6,6] x, float[3,4,3,3] w, float[1,2,8,8] z) => (float[1,6,8,8] y) { y = graphwright.block.B(x, w, z) }\n",
    "B (x, w, z) => (y) { c = ConvTranspose<kernel_shape=[3,3]>(x, w) r = Relu(c) y = Concat<axis=1>(r, z) }",
)
HEADS = (
    "g (float[2,5,8] x, float[8,12] w, float[4] b) => (float[2,3,5,4] y) { y = graphwright.block.B(x, w, b) }\n",
    "B (x, w, b) => (y) { m = MatMul(x, w) s = Constant<value_ints=[2,5,3,4]>() r = Reshape(m, s) t = Transpose<perm=[0,2,1,3]>(r) y = Add(t, b) }",
)
DEVIATION = (
    "g (float[2,5,8] x, float[2,5,1] m) => (float[2,5,1] y) { y = graphwright.block.B(x, m) }\n",
    "B (x, m) => (y) { d = Sub(x, m) two = Constant<value_float=2.0>() p = Pow(d, two) a = Constant<value_ints=[-1]>() "
    "v = ReduceMean(p, a) e = Constant<value_float=0.00001>() s = Add(v, e) y = Sqrt(s) }",
)
WORKED = """g (float[4,64] x, float[64,48] w, float[4,3,4,4] a, float[5,3,3,3] k, float[5,1,1] f, float[5,1,1] o) => (float[4,5,2,2] y)
<int64[4] s = {4, 3, 4, 4}> {
  p = Gemm(x, w) q = Reshape(p, s) b = Add(q, a) c = Conv<kernel_shape=[3,3]>(b, k) r = Relu(c) m = Mul(r, f) y = Sub(m, o)
}"""


def feeds_of(model: ir.Model) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {value.name: random.normal(size=value.shape.numpy()).astype(value.dtype.numpy()) for value in model.graph.inputs}


def agrees(model: ir.Model, options: Options = Options()) -> None:  # noqa: B008
    feeds = feeds_of(model)
    with build_model(model, options, this_machine(), lambda text: None) as runner, open_reference(model) as reference:
        found, expected = runner.run(feeds), reference.run(feeds)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("main", "body"), [CONV_TRANSPOSE, HEADS, DEVIATION], ids=["ConvTranspose+ReLU+Concat", "MatMul+Reshape+Transpose+Add", "deviation"])
def test_what_tvm_cannot_fuse_is_one_kernel(main: str, body: str) -> None:
    model = ir.from_onnx_text(HEADER + main + FUNCTION + body)
    assert len(kernels_of(fused_module(model))) == 1
    assert len(kernels_of(fused_module(model, Options(fusion="own")))) > 1
    agrees(model)


def test_the_worked_example_is_two_kernels() -> None:
    model = ir.from_onnx_text('<ir_version: 10, opset_import: ["" : 21]>\n' + WORKED)
    PlanFusion().run(model, Context(cpu_target()))
    together = [{node.op_type for node in function} for function in model.functions.values()]
    assert any({"Add", "Conv", "Relu", "Mul", "Sub"} <= kinds and "Gemm" not in kinds for kinds in together)
    calls = kernels_of(fused_module(model))
    assert sum("block" in name for name in calls) == 1
    agrees(model)


def test_arithmetic_stands_behind_products() -> None:
    larger = WORKED.replace("float[4,64] x, float[64,48] w, float[4,3", "float[64,128] x, float[128,48] w, float[64,3")  # One thread alone would not do it.
    model = ir.from_onnx_text('<ir_version: 10, opset_import: ["" : 21]>\n' + larger.replace("float[4,5", "float[64,5").replace("{4, 3", "{64, 3"))
    prepared = prepare(model)
    mark_plan(prepared)
    blocks: dict[object, set[str]] = {}
    for node in prepared.graph:
        blocks.setdefault(node.meta.get(BLOCK), set()).add(node.op_type)
    together = next(kinds for kinds in blocks.values() if "Conv" in kinds)
    assert together == {"Conv", "Relu", "Mul", "Sub"}
    agrees(model)


def test_blocks_that_are_equal_share_a_kernel() -> None:
    model = ir.from_onnx_text(
        HEADER
        + "g (float[2,8] x, float[8,8] w) => (float[2,8] y) { a = graphwright.block.B(x, w) y = graphwright.block.B(a, w) }\n"
        + FUNCTION
        + "B (x, w) => (y) { m = MatMul(x, w) y = Relu(m) }"
    )
    calls = kernels_of(fused_module(model))
    assert len(calls) == 2
    assert len(set(calls)) == 1
    agrees(model)


def test_a_block_with_two_results_is_one_kernel() -> None:
    model = ir.from_onnx_text(
        HEADER
        + "g (float[2,8] x) => (float[2,8] y, float[2,8] z) { y, z = graphwright.block.B(x) }\n"
        + FUNCTION
        + "B (x) => (y, z) { y = Relu(x) e = Exp(y) z = Add(e, x) }"
    )
    assert len(kernels_of(fused_module(model))) == 1
    agrees(model)


def test_a_block_that_sorts_is_taken_apart() -> None:
    model = ir.from_onnx_text(
        HEADER
        + "g (float[2,8] x) => (float[2,3] y) { y = graphwright.block.B(x) }\n"
        + FUNCTION
        + "B (x) => (y) { r = Relu(x) k = Constant<value_ints=[3]>() v, i = TopK(r, k) y = Neg(v) }"
    )
    agrees(model)


def test_blocks_of_open_sizes_are_one_kernel_for_all_of_them() -> None:
    model = ir.from_onnx_text(
        HEADER
        + "g (float[N,T,8] x, float[8,8] w) => (float[N,T,8] y) { y = graphwright.block.B(x, w) }\n"
        + FUNCTION
        + "B (x, w) => (y) { m = MatMul(x, w) r = Relu(m) y = Add(r, x) }"
    )
    assert len(kernels_of(fused_module(model))) == 1
    random = np.random.default_rng(1)
    w = random.normal(size=(8, 8)).astype(np.float32)
    with build_model(model, Options(), this_machine(), lambda text: None) as runner:
        for shape in ((1, 1, 8), (3, 5, 8), (2, 0, 8)):
            x = random.normal(size=shape).astype(np.float32)
            np.testing.assert_allclose(runner.run({"x": x, "w": w})["y"], np.maximum(x @ w, 0) + x, rtol=2e-5, atol=2e-5)
