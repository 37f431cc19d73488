"""A quantised model keeps its integer kernels, and gets more of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.passes import Context
from graphwright.compiler.driver import optimize
from graphwright.compiler.importer import import_model
from graphwright.compiler.pipeline import parse_pipeline
from graphwright.compiler.targets import find_target

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
INTEGER = ("QLinear", "QGemm", "MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul")
BY_THEMSELVES = "inline-functions,normalise-opset,simplify-quantised,eliminate-common-subexpressions,eliminate-dead-code"


def integer_kernels(model: bytes, folder: Path) -> Counter[str]:
    """The kernels for integers that ONNX Runtime settles on."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node if node.op_type.startswith(INTEGER))


def rewritten(source: object, pipeline: str) -> bytes:
    model = clone_model(import_model(source).model)
    for step in parse_pipeline(pipeline):
        step.run(model, Context(find_target("ort-cpu")))
    return ir.to_proto(model).SerializeToString()


@pytest.mark.shared
@pytest.mark.parametrize("name", ["mobilenetv1_0.5_160_qdq", "movenet_qdq", "deeplabv3_qdq"])
def test_a_quantised_model_keeps_its_integer_kernels(name: str, shared: Path, tmp_path: Path) -> None:
    path = shared / "models" / f"{name}.onnx"
    before = integer_kernels(path.read_bytes(), tmp_path)
    for pipeline in (2, BY_THEMSELVES):
        after = integer_kernels(optimize(path, target="ort-cpu", level=pipeline).SerializeToString(), tmp_path)
        assert before and all(after[kernel] >= count for kernel, count in before.items()), pipeline


@pytest.mark.shared
def test_activations_of_one_type_give_more_integer_kernels(shared: Path, tmp_path: Path) -> None:
    path = shared / "models" / "movenet_qdq.onnx"
    before, after = integer_kernels(path.read_bytes(), tmp_path), integer_kernels(rewritten(path, BY_THEMSELVES), tmp_path)
    assert after["QLinearConv"] >= before["QLinearConv"] + 20 and after["QLinearAdd"] > before["QLinearAdd"]


C = (
    "float s = {0.1}, uint8 z = {128}, float t = {0.05}, uint8 o = {100}, float u = {0.02}, int8 v = {0}, float r = {0.002}, int8[2,2,1,1] k = {1,2,3,4},"
    " int32[2] i = {1,2}, int32 n = {0}, float[2,2,1,1] fk = {0.01,0.02,0.03,0.04}, float[2] fb = {1,2}"
)
CONV = "w = DequantizeLinear(k, u, v) a = Conv(d, w) y = QuantizeLinear(a, t, o)"
M = "float s = {0.1}, uint8 z = {128}, float t = {0.05}, uint8 o = {100}, float u = {0.02}, int8 v = {0}, int8[3,4] w = {1,2,3,4,5,6,7,8,9,1,2,3}"
SMALL = {
    "conv": f"g (uint8[1,2,3,3] x) => (uint8[1,2,3,3] y) <{C}> {{ d = DequantizeLinear(x, s, z) {CONV} }}",
    "conv with int32 bias": f"g (uint8[1,2,3,3] x) => (uint8[1,2,3,3] y) <{C}> {{ d = DequantizeLinear(x, s, z) w = DequantizeLinear(k, u, v)"
    " b = DequantizeLinear(i, r, n) a = Conv(d, w, b) y = QuantizeLinear(a, t, o) }",
    "conv with float bias": f"g (uint8[1,2,3,3] x) => (uint8[1,2,3,3] y) <{C}> {{ d = DequantizeLinear(x, s, z) w = DequantizeLinear(k, u, v)"
    " a = Conv(d, w, fb) y = QuantizeLinear(a, t, o) }",
    "weight quantised in the graph": f"g (uint8[1,2,3,3] x) => (uint8[1,2,3,3] y) <{C}> {{ d = DequantizeLinear(x, s, z) q = QuantizeLinear(fk, u, v)"
    " w = DequantizeLinear(q, u, v) a = Conv(d, w) y = QuantizeLinear(a, t, o) }",
    "clamped conv": f"g (uint8[1,2,3,3] x) => (uint8[1,2,3,3] y) <{C}> {{ d = DequantizeLinear(x, s, z) w = DequantizeLinear(k, u, v)"
    " a = Conv(d, w) c = Relu(a) y = QuantizeLinear(c, t) }",
    "one dequantised value for three readers": f"g (uint8[1,2,3,3] x) => (uint8[1,2,3,3] y, uint8[1,2,3,3] e, float[1,2,3,3] h) <{C}>"
    f" {{ d = DequantizeLinear(x, s, z) {CONV} f = Sigmoid(d) e = QuantizeLinear(f, t, o) h = Neg(d) }}",
    "one pair for each of two readers": f"g (float[1,2,3,3] x) => (uint8[1,2,3,3] y, uint8[1,2,3,3] e) <{C}> {{ q = QuantizeLinear(x, s, z)"
    f" d = DequantizeLinear(q, s, z) p = QuantizeLinear(x, s, z) l = DequantizeLinear(p, s, z) {CONV} f = Sigmoid(l) e = QuantizeLinear(f, t, o) }}",
    "product with transposed weight": f"g (uint8[2,4] x) => (uint8[2,3] y) <{M}> {{ d = DequantizeLinear(x, s, z) e = DequantizeLinear(w, u, v)"
    " f = Transpose(e) a = MatMul(d, f) y = QuantizeLinear(a, t, o) }",
    "gemm": f"g (uint8[2,4] x) => (uint8[2,3] y) <{M}> {{ d = DequantizeLinear(x, s, z) e = DequantizeLinear(w, u, v)"
    " a = Gemm<transB=1>(d, e) y = QuantizeLinear(a, t, o) }",
    "product that stays float": f"g (uint8[2,4] x) => (float[2,3] y) <{M}> {{ d = DequantizeLinear(x, s, z) e = DequantizeLinear(w, u, v)"
    " f = Transpose(e) y = MatMul(d, f) }",
    "elementwise": f"g (uint8[2,4] x, uint8[2,4] l) => (uint8[2,4] y) <{M}> {{ d = DequantizeLinear(x, s, z) e = DequantizeLinear(l, t, o) a = Add(d, e)"
    " q = QuantizeLinear(a, t, o) f = DequantizeLinear(q, t, o) b = Mul(f, e) y = QuantizeLinear(b, s, z) }",
    "product quantised while it runs": "g (float[2,4] x) => (float[2,3] y) <int8[4,3] w = {1,2,3,4,5,6,7,8,9,1,2,3}, float v = {0.1}, float[3] b = {1,2,3}>"
    " { q, s, z = DynamicQuantizeLinear(x) i = MatMulInteger(q, w, z) f = Cast<to=1>(i) k = Mul(s, v) m = Mul(f, k) y = Add(m, b) }",
}


@pytest.mark.parametrize("name", SMALL)
def test_small_quantised_graphs_keep_their_integer_kernels(name: str, tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(HEADER + SMALL[name])
    before = integer_kernels(proto.SerializeToString(), tmp_path)
    for pipeline in (2, BY_THEMSELVES):
        after = integer_kernels(optimize(proto, target="ort-cpu", level=pipeline).SerializeToString(), tmp_path)
        assert before and sum(after.values()) >= sum(before.values()), (pipeline, before, after)


SIGNED = "float s = {{0.1}}, int8 z = {{{zero}}}, float u = {{0.02}}, int8 v = {{0}}, int8[2,2,1,1] k = {{1,2,3,4}}, int8[2,2,1,1] l = {{4,3,2,1}}"
RESIDUAL = (
    "g (float[1,2,3,3] x) => (float[1,2,3,3] y) <{constants}> {{ p = QuantizeLinear(x, s, z) d = DequantizeLinear(p, s, z) w = DequantizeLinear(k, u, v)"
    " a = Conv(d, w) q = QuantizeLinear(a, s, z) e = DequantizeLinear(q, s, z) r = QuantizeLinear(a, s, z) f = DequantizeLinear(r, s, z)"
    " m = DequantizeLinear(l, u, v) b = Conv(e, m) t = QuantizeLinear(b, s, z) g = DequantizeLinear(t, s, z) c = Add(g, f) o = QuantizeLinear(c, s, z)"
    " y = DequantizeLinear(o, s, z) }}"
)


@pytest.mark.parametrize(("zero", "target"), [(7, "ort-cpu"), (7, "onnx"), (0, "ort-cpu")])
def test_signed_activations_that_several_nodes_read_have_integer_kernels(zero: int, target: str, tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(HEADER + RESIDUAL.format(constants=SIGNED.format(zero=zero)))
    before = integer_kernels(proto.SerializeToString(), tmp_path)
    pipeline = f"{BY_THEMSELVES},simplify-quantised"
    after = integer_kernels(optimize(proto, target=target, level=pipeline).SerializeToString(), tmp_path)
    assert after["QLinearConv"] == 2 and after["QLinearAdd"] == 1 and sum(before.values()) <= 3


def test_scales_multiplied_one_after_the_other_still_give_one_kernel(tmp_path: Path) -> None:
    text = (
        "g (float[2,4] x) => (float[2,3] y) <int8[4,3] w = {1,2,3,4,5,6,7,8,9,1,2,3}, float v = {0.1}>"
        " { q, s, z = DynamicQuantizeLinear(x) i = MatMulInteger(q, w, z) f = Cast<to=1>(i) m = Mul(f, s) y = Mul(m, v) }"
    )
    after = integer_kernels(rewritten(onnx.parser.parse_model(HEADER + text), BY_THEMSELVES), tmp_path)
    assert after == Counter({"DynamicQuantizeMatMul": 1})


@pytest.mark.parametrize("seed", range(6))
def test_signed_and_unsigned_chains_compute_the_same_bits(seed: int, run_onnx: Callable[..., dict[str, object]]) -> None:
    """A chain of quantised layers with types, scales and movement drawn by lot, every result kept."""
    proto = onnx.parser.parse_model(HEADER + random_chain(np.random.default_rng(seed)))
    after = rewritten(proto, BY_THEMSELVES)
    feeds = {"x": np.random.default_rng(seed).normal(size=(2, 4)).astype(np.float32) * 4}
    for old, new in zip(run_onnx(proto, feeds).values(), run_onnx(onnx.load_from_string(after), feeds).values(), strict=True):
        np.testing.assert_array_equal(old, new)  # type: ignore[arg-type]


def random_chain(lot: np.random.Generator) -> str:
    constants, text, value = [], "", "x"
    outputs = []
    for index in range(8):
        kind = "int8" if lot.random() < 0.5 else "uint8"
        zero = int(lot.integers(-128, 128)) if kind == "int8" else int(lot.integers(0, 256))
        constants += [f"float s{index} = {{{lot.uniform(0.01, 0.2):.4f}}}", f"{kind} z{index} = {{{zero}}}"]
        parameters = f"s{index}, z{index}"
        text += f"q{index} = QuantizeLinear({value}, {parameters}) "
        codes = f"q{index}"
        if lot.random() < 0.4:
            text += f"t{index} = Transpose<perm=[0,1]>({codes}) "
            codes = f"t{index}"
        text += f"d{index} = DequantizeLinear({codes}, {parameters}) "
        operation = ("Relu", "Sigmoid", "Neg", "Identity")[int(lot.integers(4))]
        text += f"v{index} = {operation}(d{index}) "
        value = f"v{index}"
        if lot.random() < 0.3:
            outputs.append(f"{kind}[2,4] {codes}" if lot.random() < 0.5 else f"float[2,4] d{index}")
    outputs.append(f"float[2,4] {value}")
    return f"g (float[2,4] x) => ({', '.join(outputs)}) <{', '.join(constants)}> {{ {text}}}"
