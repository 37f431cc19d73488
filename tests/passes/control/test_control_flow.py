"""What branches and loops become, and what stays what it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.graph import all_graphs, bind_opsets
from graphwright.compiler.core.ledger import Ledger
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.wellformed import check
from graphwright.passes.control.simplify import SimplifyControlFlow

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
Run = Callable[..., dict[str, object]]
Same = Callable[[dict[str, object], dict[str, object]], None]
X = np.array([-1.5, 0.0, 2.0], dtype=np.float32)


def read(text: str) -> ir.Model:
    model = ir.from_onnx_text(HEADER + text)
    bind_opsets(model)
    return model


def simplified(text: str, ledger: Ledger | None = None) -> ir.Model:
    model = read(text)
    SimplifyControlFlow().run(model, Context(ledger=ledger or Ledger()))
    check(model)
    return model


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for graph in all_graphs(model) for node in graph)


@pytest.fixture
def assert_kept(run_onnx: Run, assert_same_bits: Same) -> Callable[[str, ir.Model, Mapping[str, object]], None]:
    def compare(text: str, model: ir.Model, feeds: Mapping[str, object]) -> None:
        assert_same_bits(run_onnx(read(text), feeds), run_onnx(model, feeds))

    return compare


NESTED = (
    "g (float[N] x, bool c) => (float[N] y) <int64 n = {3}, bool t = {1}> { y = If(t) <then_branch = a () => (float[N] p) { h = Exp(x)"
    " p = Loop(n, t, h) <body = b (int64 i, bool k, float[N] s) => (bool k1, float[N] s1) { k1 = Identity(k) r = If(c) <"
    "then_branch = d () => (float[N] q) { m = Add(s, h) q = Sin(m) }, else_branch = e () => (float[N] q2) { q2 = Sub(s, x) }> s1 = Relu(r) }> },"
    " else_branch = f () => (float[N] z) { z = Neg(x) }> }"
)


def test_a_loop_in_a_known_branch_is_written_out_too(assert_kept: Callable[..., None]) -> None:
    model = simplified(NESTED)
    assert operators(model)["Loop"] == 0 and operators(model)["If"] == 3
    for choice in (False, True):
        assert_kept(NESTED, model, {"x": X, "c": np.array(choice)})


SHADOWED = (
    "g (float[N] h, int64 n, bool c) => (float[N] y, float[N] v) { k = Neg(h) y, v = Loop(n, c, h, k) <body = b (int64 i, bool j, float[N] a, float[N] d)"
    " => (bool j1, float[N] a1, float[N] d1) { j1 = Identity(j) a1 = Add(a, d) d1 = Identity(d) }> }"
)


def test_a_state_that_never_changes_is_read_from_outside_even_where_the_body_uses_its_name(assert_kept: Callable[..., None]) -> None:
    text = SHADOWED.replace("j1 = Identity(j) a1 = Add(a, d)", "j1 = Identity(j) k2 = Exp(a) a1 = Add(k2, d)")
    before = read(text)
    inner = next(value for graph in all_graphs(before) for node in graph for value in node.outputs if value.name == "k2")
    inner.name = "k"
    model = before
    assert SimplifyControlFlow().run(model, Context()) == 1
    check(model)
    assert len(model.graph.outputs) == 2 and all(len(node.outputs) == 1 for node in model.graph)
    assert_kept(text, model, {"h": X, "n": np.array(2), "c": np.array(True)})


COMPUTED = (
    "g (float x) => (float y) <int64 n = {5}, bool t = {1}, float top = {10}> { y = Loop(n, t, x) <body = b (int64 i, bool k, float s) => (bool k1, float s1)"
    " { s1 = Add(s, s) k1 = Less(s1, top) }> }"
)


def test_a_loop_that_decides_by_itself_when_to_stop_is_left_alone() -> None:
    assert operators(simplified(COMPUTED))["Loop"] == 1


def test_a_loop_of_many_rounds_is_left_alone() -> None:
    assert operators(simplified(NESTED.replace("n = {3}", "n = {1000}")))["Loop"] == 1


def test_loops_in_loops_are_written_out_only_where_all_of_them_stay_small() -> None:
    inner = "b = Loop(n, t, a) <body = d (int64 j, bool l, float[N] u) => (bool l1, float[N] u1) { l1 = Identity(l) v = Sin(u) w = Exp(v) u1 = Neg(w) }>"
    text = (
        "g (float[N] x) => (float[N] y) <int64 n = {ROUNDS}, bool t = {1}> { y = Loop(n, t, x) <body ="
        " e (int64 i, bool k, float[N] a) => (bool k1, float[N] a1)"
        f" {{ k1 = Identity(k) {inner} a1 = Neg(b) }}> }}"
    )
    assert operators(simplified(text.replace("ROUNDS", "3")))["Loop"] == 0
    assert sum(operators(simplified(text.replace("ROUNDS", "50"))).values()) < 1000


def test_a_body_with_nothing_left_to_do_for_its_readers_is_unrolled_and_pruned(assert_kept: Callable[..., None]) -> None:
    text = (
        "g (float[N] x, int64 n, bool c) => (float[N] y) { y, z, q = Loop(n, c, x, x) <body = b (int64 i, bool k, float[N] a, float[N] d)"
        " => (bool k1, float[N] a1, float[N] d1, float[N] s) { k1 = Identity(k) e = Exp(x) a1 = Add(a, e) d1 = Sin(d) s = Cos(d) }> }"
    )
    model = simplified(text)
    found = operators(model)
    assert found["Sin"] == found["Cos"] == 0 and [node.op_type for node in model.graph] == ["Exp", "Loop"]
    for count in (0, 1, 3):
        assert_kept(text, model, {"x": X, "n": np.array(count), "c": np.array(True)})


def test_what_stays_in_a_loop_that_may_never_run_can_fail() -> None:
    text = (
        "g (float[3] x, int64 p, int64 n, bool c) => (float[3] y) { y = Loop(n, c, x) <body = b (int64 i, bool k, float[3] a) => (bool k1, float[3] a1)"
        " { k1 = Identity(k) e = Gather(x, p) a1 = Add(a, e) }> }"
    )
    assert [node.op_type for node in simplified(text).graph] == ["Loop"]


def test_each_rewrite_of_control_flow_asks_the_ledger() -> None:
    ledger = Ledger(limit=0)
    assert operators(simplified(NESTED, ledger)) == operators(read(NESTED)) and not ledger.entries
    ledger = Ledger()
    simplified(NESTED, ledger)
    assert {entry.rule for entry in ledger.entries} >= {"inline-known-if", "unroll-loop"}


def test_a_sequence_that_a_branch_makes_is_inlined(run_onnx: Run) -> None:
    text = (
        "g (float[N] x) => (float[N] y) <bool t = {0}, int64 z = {0}> { s = If(t) <then_branch = a () => (seq(float[N]) p) { p = SequenceConstruct(x, x) },"
        " else_branch = b () => (seq(float[N]) q) { r = Neg(x) q = SequenceConstruct(r) }> y = SequenceAt(s, z) }"
    )
    model = simplified(text)
    assert operators(model)["If"] == 0
    np.testing.assert_array_equal(run_onnx(model, {"x": X})["y"], -X)  # type: ignore[arg-type]


def random_control_flow(seed: int) -> str:
    """A model of nested branches and loops over one vector; what is constant, captured, read and repeated is drawn by lot."""
    lot = np.random.default_rng(seed)
    count = 0

    def fresh() -> str:
        nonlocal count
        count += 1
        return f"v{count}"

    def pick(names: list[str]) -> str:
        return names[int(lot.integers(len(names)))]

    def lines(names: list[str], depth: int) -> str:
        text = ""
        for _ in range(int(lot.integers(1, 4))):
            kind = pick(["unary", "unary", "binary", "if", "loop", "scan"] if depth < 3 else ["unary", "binary"])
            if kind == "if":
                one, other = branch(names, depth), branch(names, depth)
                if lot.random() < 0.2:
                    other = one
                made = [fresh(), fresh()]
                text += f"{made[0]}, {made[1]} = If({pick(['c', 'd', 'e', 'yes', 'no'])}) <then_branch = {one}, else_branch = {other}> "
                names += made
            elif kind == "loop":
                made = [fresh(), fresh(), fresh()]
                stacked = fresh()
                text += f"{made[0]}, {made[1]}, {stacked} = Loop({pick(['n', 'two', 'two', 'none'])}, {pick(['c', 'yes', ''])}, {pick(names)}, {pick(names)})"
                text += f" <body = {body(names, depth)}> {made[2]} = ReduceSum<keepdims=0>({stacked}, zero) "
                names += made
            elif kind == "scan":
                made = [fresh(), fresh(), fresh()]
                text += f"{made[0]}, {made[1]}, {made[2]}r = Scan<num_scan_inputs=1, scan_input_directions=[{int(lot.integers(2))}], scan_output_axes=[1],"
                text += f" scan_output_directions=[{int(lot.integers(2))}], body = {scanned(names, depth)}>({pick(names)}, {pick(names)}, rows)"
                text += f" {made[2]} = ReduceSum<keepdims=0>({made[2]}r, one) "
                names += made
            else:
                made = [fresh()]
                text += f"{made[0]} = {pick(['Sin', 'Neg', 'Relu'])}({pick(names)}) " if kind == "unary" else f"{made[0]} = Add({pick(names)}, {pick(names)}) "
                names += made
        return text

    def branch(names: list[str], depth: int) -> str:
        own = list(names)
        text = lines(own, depth + 1)
        one, other = fresh(), fresh()
        return f"{fresh()} () => (float[2] {one}, float[2] {other}) {{ {text}{one} = Identity({pick(own)}) {other} = Identity({pick(own)}) }}"

    def scanned(names: list[str], depth: int) -> str:
        one, other, row = fresh(), fresh(), fresh()
        own = [*names, one, other, row]
        text = lines(own, depth + 1)
        ends = [fresh() for _ in range(3)]
        copies = " ".join(f"{end} = Identity({value})" for end, value in zip(ends, [pick([one, *own]), pick([other, other, *own]), pick(own)], strict=True))
        formals = ", ".join(f"float[2] {name}" for name in (one, other, row))
        return f"{fresh()} ({formals}) => ({', '.join(f'float[2] {end}' for end in ends)}) {{ {text}{copies} }}"

    def body(names: list[str], depth: int) -> str:
        counter, going, one, other = fresh(), fresh(), fresh(), fresh()
        own = [*names, one, other]
        text = lines(own, depth + 1)
        ends = [fresh() for _ in range(4)]
        values = [pick([one, *own]), pick([other, other, *own]), pick(own)]
        return (
            f"{fresh()} (int64 {counter}, bool {going}, float[2] {one}, float[2] {other}) => (bool {ends[0]}, float[2] {ends[1]}, float[2] {ends[2]},"
            f" float[2] {ends[3]}) {{ {ends[0]} = Identity({going}) {text}"
            + " ".join(f"{end} = Identity({value})" for end, value in zip(ends[1:], values, strict=True))
            + " }"
        )

    names = ["x"]
    text = lines(names, 0)
    constants = "bool yes = {1}, bool no = {0}, int64 two = {2}, int64 none = {0}, int64[1] zero = {0}, int64[1] one = {1}, float[3,2] rows = {1,2,3,4,5,6}"
    return f"g (float[2] x, bool c, bool d, int64 n) => (float[2] y) <{constants}> {{ e = Not(c) {text}y = Add({names[-1]}, {pick(names)}) }}"


@pytest.mark.parametrize("seed", range(60))
def test_random_control_flow_computes_the_same_as_before(seed: int, run_onnx: Run) -> None:
    text = random_control_flow(seed)
    before, model = read(text), simplified(text)
    for choice, rounds in ((False, 0), (True, 2)):
        feeds = {"x": X[1:], "c": np.array(choice), "d": np.array(not choice), "n": np.array(rounds)}
        np.testing.assert_array_equal(run_onnx(before, feeds)["y"], run_onnx(model, feeds)["y"])  # type: ignore[arg-type]
