"""Mapping types: every operator has one, and shapes, attributes and constants refine it."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from graphwright.backends.ort.kernels import kernel_types
from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.planning.mapping import Mapping, Verdict, combine
from graphwright.compiler.core.planning.operators import OPERATORS, PARAMETERS, is_parameter
from graphwright.compiler.core.planning.variants import mapping_of, pair_mapping
from graphwright.compiler.core.shapes import infer_shapes

HEAD = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>\n'
O2O, REORGANIZE, SHUFFLE, O2M, M2M, OPAQUE = Mapping
OUR_KERNELS = (
    "Attention", "BiasGelu", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "EmbedLayerNormalization", "FastGelu", "FusedConv", "FusedGemm",
    "FusedMatMul", "GatherBlockQuantized", "Gelu", "MatMulBnb4", "MatMulIntegerToFloat", "MatMulNBits", "MultiHeadAttention", "QLinearAdd", "QuickGelu",
    "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
)  # fmt: skip
"""Kernels of ONNX Runtime that rules of this project put into models."""


def node(text: str) -> ir.Node:
    """The last node of a model."""
    model = ir.from_onnx_text(HEAD + text)
    bind_opsets(model)
    infer_shapes(model)
    return list(model.graph)[-1]


def test_no_operator_of_onnx_lacks_an_entry() -> None:
    named = {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas_with_history()}
    assert not named - OPERATORS.keys()


def test_no_entry_of_the_default_domain_is_unknown_to_onnx_but_what_its_optimizer_writes() -> None:
    named = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if not schema.domain}
    assert {name for domain, name in OPERATORS if not domain} - named <= {"SimplifiedLayerNormalization"}


def test_no_kernel_that_our_rules_write_lacks_an_entry() -> None:
    assert not {("com.microsoft", name) for name in OUR_KERNELS} - OPERATORS.keys()


def test_kernels_that_our_rules_write_are_kernels_that_there_are() -> None:
    there = kernel_types("CPUExecutionProvider")
    assert not [name for name in OUR_KERNELS if f"com.microsoft::{name}" not in there]


def test_parameters_are_inputs_that_the_operators_have() -> None:
    for name, places in PARAMETERS.items():
        versions = [schema for schema in onnx.defs.get_all_schemas_with_history() if schema.name == name and not schema.domain]
        assert all(any(place < schema.max_input for schema in versions) for place in places), name


@pytest.mark.parametrize(
    ("first", "second", "mapping", "verdict"),
    [
        (O2O, O2O, O2O, Verdict.YES), (O2O, O2M, O2M, Verdict.YES), (O2O, M2M, M2M, Verdict.YES), (O2O, REORGANIZE, REORGANIZE, Verdict.YES),
        (O2O, SHUFFLE, SHUFFLE, Verdict.YES),
        (O2M, O2O, O2M, Verdict.YES), (O2M, O2M, O2M, Verdict.PROFILE), (O2M, REORGANIZE, O2M, Verdict.PROFILE), (O2M, SHUFFLE, O2M, Verdict.PROFILE),
        (M2M, O2O, M2M, Verdict.YES), (M2M, O2M, M2M, Verdict.PROFILE), (M2M, REORGANIZE, M2M, Verdict.PROFILE), (M2M, SHUFFLE, M2M, Verdict.PROFILE),
        (REORGANIZE, O2O, REORGANIZE, Verdict.YES), (REORGANIZE, O2M, O2M, Verdict.PROFILE), (REORGANIZE, M2M, M2M, Verdict.PROFILE),
        (REORGANIZE, REORGANIZE, REORGANIZE, Verdict.YES), (REORGANIZE, SHUFFLE, REORGANIZE, Verdict.YES),
        (SHUFFLE, O2O, SHUFFLE, Verdict.YES), (SHUFFLE, O2M, O2M, Verdict.PROFILE), (SHUFFLE, M2M, M2M, Verdict.PROFILE),
        (SHUFFLE, REORGANIZE, REORGANIZE, Verdict.YES), (SHUFFLE, SHUFFLE, SHUFFLE, Verdict.YES),
    ],
)  # fmt: skip
def test_fusing_two_types_gives(first: Mapping, second: Mapping, mapping: Mapping, verdict: Verdict) -> None:
    assert combine(first, second) == (mapping, verdict)


@pytest.mark.parametrize("first", [O2M, M2M])
def test_what_spreads_or_gathers_is_never_fused_with_what_gathers(first: Mapping) -> None:
    assert combine(first, M2M)[1] is Verdict.NEVER


@pytest.mark.parametrize("other", list(Mapping))
def test_opaque_operators_are_never_fused(other: Mapping) -> None:
    assert combine(OPAQUE, other)[1] is Verdict.NEVER and combine(other, OPAQUE)[1] is Verdict.NEVER


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("g (float[2,3] x, float[2,3] z) => (float[2,3] y) { y = Add(x, z) }", O2O),
        ("g (float[2,3] x, float[3] z) => (float[2,3] y) { y = Add(x, z) }", O2M),
        ("g (float[2,3] x) => (float[2,3] y) <float[3] z = {1,2,3}> { y = Add(x, z) }", O2O),
        ("g (float[2,1] x) => (float[2,3] y) <float[2,3] z = {1,2,3,1,2,3}> { y = Add(x, z) }", O2M),
        ("g (float[N,3] x, float[N,3] z) => (float[N,3] y) { y = Add(x, z) }", O2O),
        ("g (float[N,3] x, float[M,3] z) => (float[?,3] y) { y = Add(x, z) }", O2M),
        ("g (float[2,3] x, float low) => (float[2,3] y) { y = Clip(x, low) }", O2M),
        ("g (bool[2,3] c, float[2,3] x) => (float[2,3] y) <float z = {0}> { y = Where(c, x, z) }", O2O),
        ("g (float[2,3] x, float[2,1] m) => (float[2,3] y) { y = Sub(x, m) }", O2M),
        ("g (float[2,3,4,4] x) => (float[2,3,4,4] y) <float[3] c = {1,2,3}> { y = BatchNormalization(x, c, c, c, c) }", O2O),
        ("g (float[2,3,4,4] x, float[3] c) => (float[2,3,4,4] y) { y = BatchNormalization(x, c, c, c, c) }", O2M),
        ("g (float[2,3] x) => (uint8[2,3] y) <float s = {0.1}, uint8 z = {3}> { y = QuantizeLinear(x, s, z) }", O2O),
        ("g (float[2,3] x, float s) => (uint8[2,3] y) <uint8 z = {3}> { y = QuantizeLinear(x, s, z) }", O2M),
        ("g (float[2,3] x) => (float[2,3] y) <int64[2] s = {2,3}> { y = Expand(x, s) }", O2O),
        ("g (float[2,1] x) => (float[2,3] y) <int64[2] s = {2,3}> { y = Expand(x, s) }", O2M),
        ("g (float[2,3] x) => (float[3,2] y) <int64[2] s = {3,2}> { y = Reshape(x, s) }", REORGANIZE),
        ("g (float[2,3] x) => (float[2,3] y) <int64[2] s = {2,3}> { y = Reshape(x, s) }", O2O),
        ("g (float[2,3] x, int64[2] s) => (float[?,?] y) { y = Reshape(x, s) }", REORGANIZE),
        ("g (float[2,3] x) => (float[3,2] y) { y = Transpose(x) }", SHUFFLE),
        ("g (float[2,1,3] x) => (float[1,2,3] y) { y = Transpose<perm=[1,0,2]>(x) }", REORGANIZE),
        ("g (float[2,3] x) => (float[2,3] y) { y = Transpose<perm=[0,1]>(x) }", O2O),
        ("g (float[4,3] x) => (float[2,3] y) <int64[1] a = {0}, int64[1] b = {2}> { y = Slice(x, a, b, a) }", O2O),
        ("g (float[4,3] x) => (float[2,3] y) <int64[1] a = {0}, int64[1] b = {4}, int64[1] s = {2}> { y = Slice(x, a, b, a, s) }", SHUFFLE),
        ("g (float[4,3] x, float[2,3] z) => (float[6,3] y) { y = Concat<axis=0>(x, z) }", O2O),
        ("g (float[4,3] x) => (float[8,3] y) { y = Concat<axis=0>(x, x) }", O2M),
        ("g (float[4,3] x) => (float[2,3] y, float[2,3] z) { y, z = Split<axis=0, num_outputs=2>(x) }", O2O),
        ("g (float[4,3] x) => (float[3] y) <int64 i = {1}> { y = Gather(x, i) }", O2O),
        ("g (float[4,3] x) => (float[2,3] y) <int64[2] i = {3,1}> { y = Gather(x, i) }", SHUFFLE),
        ("g (float[4,3] x) => (float[2,3] y) <int64[2] i = {1,1}> { y = Gather(x, i) }", O2M),
        ("g (float[4,3] x, int64[2] i) => (float[2,3] y) { y = Gather(x, i) }", O2M),
        ("g (int64[2] i) => (float[2,3] y) <float[4,3] x = {1,2,3,4,5,6,7,8,9,10,11,12}> { y = Gather(x, i) }", O2M),
        ("g (int64[2] i) => (float[2] y) <float[4] x = {1,2,3,4}> { y = Gather(x, i) }", O2O),
        ("g (float[1,1,2,2] x) => (float[1,1,4,4] y) <float[4] s = {1,1,2,2}> { y = Resize<mode=\"nearest\">(x, , s) }", O2M),
        ("g (float[1,1,2,2] x) => (float[1,1,4,4] y) <float[4] s = {1,1,2,2}> { y = Resize<mode=\"linear\">(x, , s) }", M2M),
        ("g (float[1,1,2,2] x) => (float[1,1,2,2] y) <float[4] s = {1,1,1,1}> { y = Resize<mode=\"linear\">(x, , s) }", O2O),
        ("g (float[2,3] x) => (float[2,6] y) <int64[2] r = {1,2}> { y = Tile(x, r) }", O2M),
        ("g (float[2,3] x) => (float[2,3] y) <int64[2] r = {1,1}> { y = Tile(x, r) }", O2O),
        ("g (float[2,3] x) => (float[2,5] y) <int64[4] p = {0,1,0,1}> { y = Pad(x, p) }", O2O),
        ("g (float[2,3] x) => (float[2,5] y) <int64[4] p = {0,1,0,1}> { y = Pad<mode=\"reflect\">(x, p) }", O2M),
        ("g (float[2,3] x) => (float[2,3] y) { y = Softmax(x) }", M2M),
        ("g (float[2,1] x) => (float[2,1] y) { y = Softmax(x) }", O2O),
        ("g (float[2,3] x) => (float[2,1] y) <int64[1] a = {1}> { y = ReduceMean(x, a) }", M2M),
        ("g (float[2,1] x) => (float[2] y) <int64[1] a = {1}> { y = ReduceMean<keepdims=0>(x, a) }", REORGANIZE),
        ("g (float[2,3] x) => (float[2,3] y) { y = ReduceMean<noop_with_empty_axes=1>(x) }", O2O),
        ("g (float[2,3] x) => (float[2,3] y) <float[3] s = {1,2,3}> { y = LayerNormalization(x, s) }", M2M),
        ("g (float[2,3] x) => (float[3,2] y) { y = Einsum<equation=\"ij->ji\">(x) }", SHUFFLE),
        ("g (float[2,3] x, float[2,3] z) => (float[2,3] y) { y = Einsum<equation=\"ij,ij->ij\">(x, z) }", O2O),
        ("g (float[2,3] x, float[3,4] z) => (float[2,4] y) { y = Einsum<equation=\"ij,jk->ik\">(x, z) }", M2M),
        ("g (float[2,3] x) => (int64[?,?] y) { y = NonZero(x) }", OPAQUE),
        ("g (float[2,3] x) => (int64[2] y) { y = Shape(x) }", OPAQUE),
        ("g (float[2,3] x) => (float[2,3] y) <float[3] b = {1,2,3}> { y = com.microsoft.BiasGelu(x, b) }", O2O),
        ("g (float[2,3] x) => (float[2,3] y) { y = com.microsoft.NobodyKnows(x) }", OPAQUE),
    ],
)
def test_an_operator_is(text: str, expected: Mapping) -> None:
    assert mapping_of(node(text)) is expected


def test_a_computed_shape_cannot_flow_into_a_kernel() -> None:
    reshape = node("g (float[2,3] x, int64[2] s) => (float[?,?] y) { y = Reshape(x, s) }")
    assert (pair_mapping(reshape, 0), pair_mapping(reshape, 1)) == (REORGANIZE, OPAQUE)
    assert is_parameter(reshape, 1) and not is_parameter(reshape, 0)


def test_each_operand_has_a_type_of_its_own() -> None:
    add = node("g (float[2,3] x, float[1,3] z) => (float[2,3] y) { y = Add(x, z) }")
    assert (pair_mapping(add, 0), pair_mapping(add, 1)) == (O2O, O2M)
