"""Coupled slices: what is taken out of the graph counts for as little as if its weights were zero."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.passes.prune.coupling.classes import Classes
from graphwright.passes.prune.coupling.groups import Coupling, Group, couple
from graphwright.passes.prune.coupling.shrinking import shrink

from .pruned_models import feeds_of, model_of, outputs_of, zero

MODELS = {
    "two linear layers": """
        m (float[N, 6] x, float[6, 8] W, float[8] B, float[8, 5] V) => (float[N, 5] y) {
        h = MatMul(x, W)
        b = Add(h, B)
        r = Relu(b)
        y = MatMul(r, V) }""",
    "Gemm with both operands turned, and a gate": """
        m (float[6, N] x, float[8, 6] W, float[8] B, float[6, 8] G, float[8, 5] V) => (float[N, 5] y) {
        h = Gemm<transA=1, transB=1>(x, W, B)
        g = Gemm<transA=1>(x, G)
        s = Sigmoid(g)
        t = Mul(h, s)
        y = MatMul(t, V) }""",
    "a residual": """
        m (float[N, 6] x, float[6, 8] W, float[8, 7] U, float[7, 8] T, float[8, 5] V) => (float[N, 5] y) {
        h = MatMul(x, W)
        u = MatMul(h, U)
        r = Relu(u)
        t = MatMul(r, T)
        s = Add(h, t)
        y = MatMul(s, V) }""",
    "convolutions, and a matrix of what they see": """
        m (float[2, 3, 8, 8] x, float[6, 3, 3, 3] W, float[6] B, float[6, 1, 3, 3] D, float[4, 6, 1, 1] P, float[144, 5] F) => (float[2, 5] y) {
        c = Conv<pads=[1,1,1,1]>(x, W, B)
        d = Conv<group=6>(c, D)
        r = Relu(d)
        p = Conv(r, P)
        f = Flatten(p)
        y = MatMul(f, F) }""",
    "a multiplied depthwise convolution": """
        m (float[N, 3, 6, 6] x, float[4, 3, 1, 1] W, float[8, 1, 3, 3] D, float[5, 8, 1, 1] P) => (float[N, 5, 4, 4] y) {
        c = Conv(x, W)
        d = Conv<group=4>(c, D)
        y = Conv(d, P) }""",
    "a convolution in few wide groups": """
        m (float[N, 3, 5, 5] x, float[8, 3, 1, 1] W, float[6, 4, 1, 1] D, float[5, 6, 1, 1] P) => (float[N, 5, 5, 5] y) {
        c = Conv(x, W)
        d = Conv<group=2>(c, D)
        y = Conv(d, P) }""",
    "transposed convolutions": """
        m (float[N, 3, 4, 4] x, float[3, 6, 2, 2] W, float[6] B, float[6, 2, 2, 2] D, float[4, 12, 1, 1] P) => (float[N, 4, 6, 6] y) {
        c = ConvTranspose(x, W, B)
        d = ConvTranspose<group=6>(c, D)
        y = Conv(d, P) }""",
    "a concatenation": """
        m (float[N, 4] x, float[4, 6] W, float[4, 3] U, float[9, 5] V) => (float[N, 5] y) {
        a = MatMul(x, W)
        b = MatMul(x, U)
        c = Concat<axis=-1>(a, b)
        y = MatMul(c, V) }""",
    "a split": """
        m (float[N, 4] x, float[4, 12] W, float[6, 5] V) => (float[N, 5] y) {
        h = MatMul(x, W)
        a, b = Split<axis=1>(h)
        g = Tanh(b)
        p = Mul(a, g)
        y = MatMul(p, V) }""",
    "slices": """
        m (float[N, 4] x, float[4, 12] W, float[7, 5] V) => (float[N, 5] y) {
        h = MatMul(x, W)
        start = Constant<value_ints=[-7]>()
        end = Constant<value_ints=[9223372036854775807]>()
        axis = Constant<value_ints=[-1]>()
        a = Slice(h, start, end, axis)
        y = MatMul(a, V) }""",
    "picked rows": """
        m (float[N, 4] x, float[4, 6] W, float[6, 5] V) => (float[N, 5] y) {
        h = MatMul(x, W)
        i = Constant<value_ints=[3, 0, 5, 1, -2, 2]>()
        p = Gather<axis=1>(h, i)
        y = MatMul(p, V) }""",
    "shuffled channels": """
        m (float[2, 4, 3, 3] x, float[12, 4, 1, 1] W, float[5, 12, 1, 1] V) => (float[2, 5, 3, 3] y) {
        c = Conv(x, W)
        s = Constant<value_ints=[2, 2, 6, 3, 3]>()
        r = Reshape(c, s)
        t = Transpose<perm=[0, 2, 1, 3, 4]>(r)
        b = Constant<value_ints=[2, 12, 3, 3]>()
        u = Reshape(t, b)
        y = Conv(u, V) }""",
    "heads": """
        m (float[2, 3, 8] x, float[8, 12] Q, float[8, 12] K, float[8, 12] W, float[12, 8] O) => (float[2, 3, 8] y) {
        q = MatMul(x, Q)
        k = MatMul(x, K)
        v = MatMul(x, W)
        s = Constant<value_ints=[2, 3, 4, 3]>()
        q4 = Reshape(q, s)
        k4 = Reshape(k, s)
        v4 = Reshape(v, s)
        qt = Transpose<perm=[0, 2, 1, 3]>(q4)
        kt = Transpose<perm=[0, 2, 3, 1]>(k4)
        vt = Transpose<perm=[0, 2, 1, 3]>(v4)
        a = MatMul(qt, kt)
        p = Softmax(a)
        c = MatMul(p, vt)
        ct = Transpose<perm=[0, 2, 1, 3]>(c)
        b = Constant<value_ints=[0, 0, -1]>()
        m0 = Reshape(ct, b)
        y = MatMul(m0, O) }""",
    "heads from one product": """
        m (float[2, 3, 8] x, float[8, 36] W, float[12, 8] O) => (float[2, 3, 8] y) {
        h = MatMul(x, W)
        s = Constant<value_ints=[2, 3, 3, 4, 3]>()
        r = Reshape(h, s)
        t = Transpose<perm=[2, 0, 3, 1, 4]>(r)
        i0 = Constant<value_int=0>()
        i1 = Constant<value_int=1>()
        i2 = Constant<value_int=2>()
        q = Gather(t, i0)
        k = Gather(t, i1)
        v = Gather(t, i2)
        kt = Transpose<perm=[0, 1, 3, 2]>(k)
        a = MatMul(q, kt)
        p = Softmax(a)
        c = MatMul(p, v)
        ct = Transpose<perm=[0, 2, 1, 3]>(c)
        b = Constant<value_ints=[2, 3, 12]>()
        m0 = Reshape(ct, b)
        y = MatMul(m0, O) }""",
    "pixels out of channels": """
        m (float[N, 3, 4, 4] x, float[16, 3, 1, 1] W, float[5, 4, 1, 1] V) => (float[N, 5, 8, 8] y) {
        c = Conv(x, W)
        d = DepthToSpace<blocksize=2, mode="CRD">(c)
        y = Conv(d, V) }""",
    "channels out of pixels": """
        m (float[N, 3, 4, 4] x, float[4, 3, 1, 1] W, float[5, 16, 1, 1] V) => (float[N, 5, 2, 2] y) {
        c = Conv(x, W)
        d = SpaceToDepth<blocksize=2>(c)
        y = Conv(d, V) }""",
    "batch normalisation": """
        m (float[N, 3, 4, 4] x, float[6, 3, 1, 1] W, float[6] A, float[6] B, float[6] C, float[5, 6, 1, 1] V) => (float[N, 5, 4, 4] y) {
        c = Conv(x, W)
        v = Exp(C)
        n = BatchNormalization(c, A, B, C, v)
        y = Conv(n, V) }""",
    "an Einsum": """
        m (float[N, 3, 4] x, float[4, 6] W, float[6, 5] V) => (float[N, 3, 5] y) {
        h = Einsum<equation="bsk,km->bsm">(x, W)
        y = Einsum<equation="bsm,mo->bso">(h, V) }""",
    "reductions": """
        m (float[N, 3, 4] x, float[4, 6] W, float[6, 5] V) => (float[N, 5] y) {
        h = MatMul(x, W)
        s = ReduceMean<axes=[1], keepdims=0>(h)
        y = MatMul(s, V) }""",
    "a hidden state": """
        m (float[7, 2, 4] x, float[1, 24, 4] W, float[1, 24, 6] R, float[1, 48] B, float[6, 5] V) => (float[7, 2, 5] y) {
        h = LSTM<hidden_size=6>(x, W, R, B)
        a = Constant<value_ints=[1]>()
        s = Squeeze(h, a)
        y = MatMul(s, V) }""",
    "padded channels": """
        m (float[N, 3, 4, 4] x, float[4, 3, 1, 1] W, float[6, 3, 1, 1] U, float[5, 6, 1, 1] V) => (float[N, 5, 4, 4] y) {
        c = Conv(x, W)
        p = Constant<value_ints=[0, 1, 0, 0, 0, 1, 0, 0]>()
        d = Pad(c, p)
        u = Conv(x, U)
        s = Add(d, u)
        y = Conv(s, V) }""",
    "a branch": """
        m (bool choice, float[N, 4] x, float[4, 6] W, float[6] B, float[6, 5] V) => (float[N, 5] y) {
        h = MatMul(x, W)
        r = If (choice) <then_branch = yes () => (a) { a = Add(h, B) }, else_branch = no () => (b) { b = Relu(h) }>
        y = MatMul(r, V) }""",
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_cut_counts_for_nothing_once_its_weights_are_zero(name: str) -> None:
    model = model_of(MODELS[name])
    for index in range(len(coupled(model).groups)):
        zeroed, shrunk = clone_model(model), clone_model(model)
        coupling = coupled(shrunk)
        group = coupling.groups[index]
        gone = some_of(group)
        zero(zeroed, [(item.weight.name or "", item.axis, item.indices[gone].reshape(-1)) for item in group.slices])
        shrink(shrunk, coupling.follower, group.members[gone])
        feeds = feeds_of(model)
        for before, after in zip(outputs_of(zeroed, feeds), outputs_of(shrunk, feeds), strict=True):
            np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_weights_get_smaller_by_what_the_group_says(name: str) -> None:
    model = model_of(MODELS[name])
    assert coupled(model).groups
    for index in range(len(coupled(model).groups)):
        shrunk = clone_model(model)
        coupling = coupled(shrunk)
        group = coupling.groups[index]
        before = parameters(shrunk)
        shrink(shrunk, coupling.follower, group.members[:1])
        overlap = sum(item.weight is other.weight for place, item in enumerate(group.slices) for other in group.slices[:place])
        assert before - parameters(shrunk) == group.parameters or overlap


def coupled(model: ir.Model) -> Coupling:
    """The coupling of a model whose Constant nodes are initialisers."""
    for step in parse_pipeline("constants-to-initialisers"):
        step.run(model, Context())
    return couple(model)


def some_of(group: Group) -> np.ndarray:
    """About half of the members, not the first."""
    return np.arange(1, max(2, group.size // 2 + 1))


def parameters(model: ir.Model) -> int:
    """How many numbers the float weights hold."""
    return sum(int(np.prod(value.shape.numpy())) for value in model.graph.initializers.values() if value.dtype == ir.DataType.FLOAT)


def test_an_operator_without_a_rule_holds_what_it_touches_and_is_named() -> None:
    model = model_of("""m (float[N, 4] x, float[4, 6] W, float[6, 5] V) => (float[N, 5] y) {
        h = MatMul(x, W)
        axis = Constant<value_int=1>()
        s = CumSum(h, axis)
        y = MatMul(s, V) }""")
    coupling = coupled(model)
    assert not coupling.groups
    assert "CumSum -> 's'" in coupling.refused["W"]


def test_what_the_caller_sees_stays() -> None:
    model = model_of("m (float[N, 4] x, float[4, 6] W) => (float[N, 6] y) { y = MatMul(x, W) }")
    coupling = coupled(model)
    assert not coupling.groups
    assert coupling.refused["W"] == "it is an input of the model; it is an output of the model"


def test_the_odd_and_the_even_places_of_an_axis_stay_together() -> None:
    model = model_of("""m (float[N, 4] x, float[4, 6] W, float[3, 5] V) => (float[N, 5] y) {
        h = MatMul(x, W)
        zero = Constant<value_ints=[0]>()
        one = Constant<value_ints=[1]>()
        end = Constant<value_ints=[6]>()
        step = Constant<value_ints=[2]>()
        a = Slice(h, zero, end, one, step)
        b = Slice(h, one, end, one, step)
        s = Mul(a, b)
        y = MatMul(s, V) }""")
    assert not coupled(model).groups


def test_query_heads_go_with_the_key_head_that_they_share() -> None:
    model = model_of(
        """m (float[2, 3, 8] x, float[8, 24] Q, float[8, 6] K, float[8, 6] W, float[24, 8] O) => (float[2, 3, 8] y) {
        q = MatMul(x, Q)
        k = MatMul(x, K)
        v = MatMul(x, W)
        a = Attention<q_num_heads=8, kv_num_heads=2>(q, k, v)
        y = MatMul(a, O) }""",
        opset=23,
    )
    (group,) = coupled(model).groups
    assert group.size == 2
    assert {item.weight.name: item.indices.shape[1] for item in group.slices} == {"Q": 12, "K": 3, "W": 3, "O": 12}


def test_a_shape_worked_out_at_run_time_is_told_of_the_new_length() -> None:
    model = model_of("""m (float[B, S, 8] x, float[8, 12] W, float[12, 5] V) => (float[B, S, 5] y) {
        h = MatMul(x, W)
        shape = Shape<start=0, end=2>(x)
        heads = Constant<value_ints=[4, 3]>()
        target = Concat<axis=0>(shape, heads)
        r = Reshape(h, target)
        flat = Constant<value_ints=[12]>()
        back = Concat<axis=0>(shape, flat)
        m0 = Reshape(r, back)
        y = MatMul(m0, V) }""")
    feeds = feeds_of(model)
    coupling = coupled(model)
    (group,) = coupling.groups
    zeroed = clone_model(model)
    zero(zeroed, [(item.weight.name or "", item.axis, item.indices[[1]].reshape(-1)) for item in group.slices])
    shrink(model, coupling.follower, group.members[[1]])
    np.testing.assert_allclose(outputs_of(model, feeds)[0], outputs_of(zeroed, feeds)[0], rtol=1e-4, atol=1e-5)


def test_classes_tied_in_any_order_are_one() -> None:
    classes = Classes()
    numbers = classes.fresh(5000)
    order = np.random.default_rng(0).permutation(5000)
    classes.tie(numbers[order[:-1]], numbers[order[1:]])
    assert len(np.unique(classes.find(numbers))) == 1
    classes.hold(numbers[17:18], 3)
    assert (classes.reasons(numbers) == 3).all()
