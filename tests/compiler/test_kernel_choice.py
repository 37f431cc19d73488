"""Kernels are chosen by timing them: once for each operator and shape, within a budget, and with the same answer ever after."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort import backend as ort_backend
from graphwright.backends.ort.options import DEFAULT
from graphwright.compiler import kernel_choice, search
from graphwright.compiler.core.backend import Array, Port
from graphwright.compiler.core.build import Build
from graphwright.compiler.core.drift import ROUNDING
from graphwright.compiler.core.engine import apply_rules
from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.reasons import Reasons
from graphwright.compiler.core.rule import Match, rule
from graphwright.compiler.core.shapes import infer_shapes
from graphwright.compiler.core.timing import Comparison
from graphwright.compiler.driver import compile_model, optimize_model
from graphwright.compiler.kernel_choice import KernelChoice
from graphwright.compiler.kernel_table import KernelTable, Timing, open_table, piece_key
from graphwright.compiler.piece_samples import Unsized, bind_sizes, make_sample
from graphwright.compiler.request import Request

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
TWICE = "g (float[N,2] x) => (float[N,2] z) { a = Add(x, x) b = Relu(a) c = Add(b, b) z = Relu(c) }"
LIKE = {"x": np.zeros((5, 2), np.float32)}


def model_of(text: str) -> ir.Model:
    model = ir.from_onnx_text(HEADER + text)
    bind_opsets(model)
    infer_shapes(model)
    return model


def twice(op, x):
    return op.Add(x, x)


@rule(twice, drift=ROUNDING, measured=True, doubtful=("cpu",))
def scale(op: Build, m: Match):
    """x + x -> 2 x"""
    return op.Mul(m.x, 2.0)


@dataclass
class Lab:
    """A runtime that only pretends to run: each operator takes as long as ``seconds`` says, on a clock of its own."""

    seconds: Mapping[str, float] = field(default_factory=lambda: {"Add": 2e-3, "Mul": 1e-3})
    answer: Callable[[list[str]], np.ndarray] = lambda operators: np.ones((5, 2), np.float32)
    opening: float = 0.0
    now: float = 0.0
    opened: list[list[str]] = field(default_factory=list)
    fed: list[dict[str, Array]] = field(default_factory=list)
    open_now: int = 0

    def open(self, model: ir.Model) -> FakeRunner:
        self.now += self.opening
        self.open_now += 1
        self.opened.append([node.op_type for node in model.graph])
        return FakeRunner(self, self.opened[-1], [value.name or "" for value in model.graph.outputs])


@dataclass
class FakeRunner:
    lab: Lab
    operators: list[str]
    results: list[str]
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self.lab.fed.append(dict(feeds))
        return {name: self.lab.answer(self.operators) for name in self.results}

    def stopwatch(self, feeds: Mapping[str, Array]) -> Callable[[int], float]:
        return lambda calls: calls * sum(self.lab.seconds[item] for item in self.operators)

    def close(self) -> None:
        self.lab.open_now -= 1


def choice(lab: Lab, table: KernelTable | None = None, **options: float) -> KernelChoice:
    return KernelChoice(lab.open, table or KernelTable(), clock=lambda: lab.now, **options)


def fired(judge: KernelChoice, text: str = TWICE, samples=(LIKE,)) -> int:
    model = model_of(text)
    judge.begin(model, samples)
    return apply_rules(model, [scale], Context(judge=judge))


def why_not(judge: KernelChoice, text: str = TWICE, samples=(LIKE,)) -> list[str]:
    model, reasons = model_of(text), Reasons()
    judge.begin(model, samples)
    assert apply_rules(model, [scale], Context(judge=judge, reasons=reasons)) == 0
    return [miss.reason for miss in reasons.misses]


def test_a_rule_fires_where_its_replacement_is_faster() -> None:
    judge = choice(Lab())
    assert fired(judge) == 2
    (timing,) = judge.timings
    assert timing.rule == "scale" and timing.shapes == ("FLOAT[5, 2]",) and timing.gains
    assert (timing.before_ms, timing.after_ms) == (pytest.approx(2.0), pytest.approx(1.0))


@pytest.mark.parametrize("seconds", [0.99e-3, 1e-3, 3e-3])
def test_a_rule_whose_replacement_is_no_faster_is_refused_and_told_why(seconds: float) -> None:
    reasons = why_not(choice(Lab({"Add": 1e-3, "Mul": seconds})))
    assert reasons and all("not faster here" in reason for reason in reasons)


def test_the_same_operators_at_the_same_shapes_are_timed_once() -> None:
    lab = Lab()
    judge = choice(lab)
    fired(judge)
    assert lab.opened == [["Add"], ["Mul"]]
    fired(judge)
    assert len(lab.opened) == 2
    fired(judge, samples=({"x": np.zeros((6, 2), np.float32)},))
    assert len(lab.opened) == 4
    assert lab.open_now == 0


def test_several_samples_are_timed_together() -> None:
    lab = Lab()
    judge = choice(lab)
    assert fired(judge, samples=(LIKE, {"x": np.zeros((9, 2), np.float32)}, LIKE)) == 2
    (timing,) = judge.timings
    assert timing.before_ms == pytest.approx(4.0)


def test_what_was_measured_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "kernels.jsonl"
    assert fired(choice(Lab(), KernelTable(path))) == 2
    slow = Lab({"Add": 1e-3, "Mul": 5e-3})
    judge = choice(slow, KernelTable(path))
    assert fired(judge) == 2 and slow.opened == []
    assert len(judge.timings) == 1


def test_a_broken_line_of_the_table_is_skipped_and_the_first_of_a_key_counts(tmp_path: Path) -> None:
    path = tmp_path / "kernels.jsonl"
    fired(choice(Lab(), KernelTable(path)))
    good = path.read_text()
    later = {**json.loads(good), "high": 9.0}
    path.write_text('{"key": "x"}\nnonsense\n[]\n' + good + json.dumps(later) + "\n" + good[:30])
    lab = Lab()
    assert fired(choice(lab, KernelTable(path))) == 2
    assert lab.opened == []


def test_a_table_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert fired(choice(Lab(), KernelTable(tmp_path / "file" / "kernels.jsonl"))) == 2


def test_without_a_cache_the_table_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timing = Timing("r", (), 1.0, 1.0, 1.0, 1.0, 1.0)
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", "off")
    open_table().add("key", timing)
    assert open_table().find("key") is None
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", str(tmp_path))
    open_table().add("key", timing)
    assert open_table().find("key") == timing


def test_when_the_budget_is_spent_nothing_more_is_timed_and_what_is_known_still_counts() -> None:
    lab = Lab(opening=6.0)
    judge = choice(lab, total_s=10.0)
    assert fired(judge) == 2
    assert any("10 s for timing kernels are spent" in reason for reason in why_not(judge, samples=({"x": np.zeros((6, 2), np.float32)},)))
    assert fired(judge) == 2
    assert len(lab.opened) == 2


def test_a_refusal_for_want_of_time_is_not_taken_back() -> None:
    lab = Lab(opening=6.0)
    judge = choice(lab, total_s=10.0)
    fired(judge)
    other = ({"x": np.zeros((6, 2), np.float32)},)
    assert why_not(judge, samples=other) == why_not(judge, samples=other)


def test_a_replacement_that_computes_something_else_is_refused() -> None:
    lab = Lab(answer=lambda operators: np.full((5, 2), 1.0 if operators == ["Add"] else 1.1, np.float32))
    assert any("does not compute the same" in reason for reason in why_not(choice(lab)))


def test_rounding_and_numbers_that_are_not_finite_do_not_count_as_something_else() -> None:
    numbers = {"Add": np.array([1.0, np.inf, np.nan], np.float32), "Mul": np.array([1.00001, 3.0, 1.0], np.float32)}
    assert fired(choice(Lab(answer=lambda operators: numbers[operators[0]]))) == 2


@pytest.mark.parametrize(("made", "refused"), [(3.0, False), (np.nan, True)], ids=["other numbers", "no numbers"])
def test_a_compressed_piece_owes_numbers_but_not_the_same(made: float, refused: bool) -> None:
    lab = Lab(answer=lambda operators: np.full((5, 2), made if "Mul" in operators else 1.0, np.float32))
    judge = choice(lab)
    before, after = model_of("g (float[5,2] x) => (float[5,2] z) { z = Add(x, x) }"), model_of("g (float[5,2] x) => (float[5,2] z) { z = Mul(x, x) }")
    judge.begin(before, [LIKE])
    assert (judge.slower("compress", before, after) is not None) == refused
    assert refused or judge.refusal("rewrite", before, after, True) is not None


def test_a_piece_that_does_not_run_is_refused() -> None:
    def fails(operators: list[str]) -> np.ndarray:
        raise ValueError("no kernel\nat all")

    lab = Lab(answer=fails)
    assert any(reason.endswith("it cannot be timed: no kernel") for reason in why_not(choice(lab)))
    assert lab.open_now == 0


def test_a_size_that_depends_on_the_data_cannot_be_timed() -> None:
    text = "g (float[N] x) => (float[M] z) { n = NonZero(x) f = Cast<to=1>(n) a = Add(f, f) z = Relu(a) }"
    assert any("depends on more than the sizes of the inputs" in reason for reason in why_not(choice(Lab()), text, ({"x": np.ones(4, np.float32)},)))


def test_what_is_too_large_to_open_twice_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_choice, "MOST_BYTES", 3)
    lab = Lab()
    assert any("too large" in reason for reason in why_not(choice(lab))) and lab.opened == []


def test_nothing_is_timed_on_empty_inputs() -> None:
    assert any("empty" in reason for reason in why_not(choice(Lab()), samples=({"x": np.zeros((0, 2), np.float32)},)))


def test_dimensions_without_a_name_are_bound_too() -> None:
    model = model_of("g (float[M,2] x) => (float[M,2] z) { a = Add(x, x) z = Relu(a) }")
    model.graph.inputs[0].shape = ir.Shape([None, 2])
    judge = choice(Lab())
    judge.begin(model, (LIKE,))
    infer_shapes(model)
    assert apply_rules(model, [scale], Context(judge=judge)) == 1
    assert judge.timings[0].shapes == ("FLOAT[5, 2]",)


def test_names_and_the_order_of_operands_do_not_count_but_attributes_and_small_constants_do() -> None:
    def key(text: str) -> str:
        return piece_key(model_of(text), ({"N": 3},))

    base = "g (float[N] x) => (float[N] y) <float c = {2}> { y = Pow(x, c) }"
    assert key(base) == key(base.replace("x", "p").replace("y", "q").replace(" c", " d"))
    assert key(base) != key(base.replace("{2}", "{3}"))
    assert key("g (float[N] x) => (float[N] y) { y = LeakyRelu<alpha=0.1>(x) }") != key("g (float[N] x) => (float[N] y) { y = LeakyRelu<alpha=0.2>(x) }")
    assert key("g (float[N] a, float[N] b) => (float[N] y) { y = Sub(a, b) }") == key("g (float[N] a, float[N] b) => (float[N] y) { y = Sub(b, a) }")


def test_inputs_hold_what_is_known_of_them() -> None:
    model = model_of("g (float[N,6] x) => (float[M,3] y) <int64[1] three = {3}> { s = Shape<end=1>(x) d = Concat<axis=0>(s, three) y = Cast<to=1>(d) }")
    shape = next(node for node in model.graph if node.op_type == "Concat").outputs[0]
    model.graph.inputs.append(shape_as_input := ir.Value(name="d2", shape=shape.shape, type=shape.type))
    shape_as_input.meta.update(shape.meta)
    sample = make_sample(model, {"N": 7})
    assert list(sample["d2"]) == [7, 3] and sample["x"].shape == (7, 6)


def test_a_symbol_that_stands_for_nothing_known_has_no_size() -> None:
    with pytest.raises(Unsized, match="N"):
        make_sample(model_of(TWICE), {})


def test_sizes_come_from_the_samples_once_for_each_different_set() -> None:
    model = model_of("g (float[N,S] x, float[N] m) => (float[N,S] y) { y = Relu(x) }")
    small = {"x": np.zeros((2, 3), np.float32), "m": np.zeros(2, np.float32)}
    large = {"x": np.zeros((4, 3), np.float32), "m": np.zeros(4, np.float32)}
    assert bind_sizes(model, (small, large, small)) == ({"N": 2, "S": 3}, {"N": 4, "S": 3})


NORM = (
    f"{HEADER}g (float[N,3,4] x, float[N,3,4] r) => (float[N,3,4] y) <float[4] s = {{1,2,3,4}}, float[4] t = {{1,2,3,4}}>"
    " { a = Add(x, r) y = LayerNormalization(a, s, t) }"
)
FUSED = "fuse-skip-layer-norm"


@pytest.fixture
def decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[object]]:
    """Let every kernel's race end with this ratio; the answer grows by one for each race."""
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", str(tmp_path))
    races: list[object] = []

    def decide_so(ratio: float) -> list[object]:
        def compare(one: object, other: object, samples: list[dict[str, Array]], **_: object) -> Comparison:
            races.append(samples)
            return Comparison(ratio, 1.0, ratio, ratio * 0.99, ratio * 1.01, 10)

        monkeypatch.setattr(kernel_choice, "compare_runners", compare)
        monkeypatch.setattr(search, "compare_runners", lambda *_, **__: Comparison(1.0, 1.0, 1.0, 0.9, 1.1, 10))
        monkeypatch.setattr(ort_backend, "choose_options", lambda *_, **__: (DEFAULT, ()))
        return races

    return decide_so


def rules_of(report: object) -> set[str]:
    return {rule for step in report.passes for rule in step.rules}  # type: ignore[attr-defined]


def compiled(level: int | str = 2) -> object:
    sample = {name: np.ones((5, 3, 4), np.float32) for name in "xr"}
    return compile_model(ir.from_onnx_text(NORM), [sample], Request(level=level, cache=False)).report


def test_compiling_uses_a_doubtful_kernel_where_it_is_measured_to_be_faster_and_reports_it(decide: Callable[[float], list[object]]) -> None:
    races = decide(0.5)
    report = compiled()
    assert FUSED in rules_of(report)
    (entry,) = [entry for entry in report.kernels if entry.rule == FUSED]  # type: ignore[attr-defined]
    assert entry.chosen and entry.shapes == ["FLOAT[5, 3, 4]", "FLOAT[5, 3, 4]"] and entry.after_ms == 500.0
    assert races


def test_compiling_again_asks_the_table_and_not_the_clock(decide: Callable[[float], list[object]]) -> None:
    races = decide(0.5)
    compiled()
    count = len(races)
    decide(2.0)
    assert FUSED in rules_of(compiled()) and len(races) == count


def test_compiling_leaves_a_kernel_alone_that_is_measured_to_be_slower(decide: Callable[[float], list[object]]) -> None:
    decide(2.0)
    report = compiled()
    assert FUSED not in rules_of(report)
    assert [entry.chosen for entry in report.kernels if entry.rule == FUSED] == [False]  # type: ignore[attr-defined]


def test_nothing_is_timed_where_no_kernel_is_chosen(decide: Callable[[float], list[object]]) -> None:
    races = decide(0.5)
    assert compiled(1).kernels == []  # type: ignore[attr-defined]
    found = optimize_model(ir.from_onnx_text(NORM), Request(target="ort-cpu"))
    assert FUSED not in {rule for record in found.records for rule in record.rules}
    assert races == []


@rule(twice, drift=ROUNDING, measured=True)
def trusted_scale(op: Build, m: Match):
    """x + x -> 2 x, which nothing speaks against"""
    return op.Mul(m.x, 2.0)


@pytest.mark.parametrize(("seconds", "times"), [(0.5e-3, 2), (1e-3, 2), (3e-3, 0)])
def test_a_rule_without_doubts_is_only_refused_where_it_is_slower(seconds: float, times: int) -> None:
    judge = choice(Lab({"Add": 1e-3, "Mul": seconds}))
    model = model_of(TWICE)
    judge.begin(model, (LIKE,))
    assert apply_rules(model, [trusted_scale], Context(judge=judge)) == times
    assert [timing.chosen for timing in judge.timings] == [times > 0]


def test_a_rule_without_doubts_fires_where_the_time_for_measuring_is_spent() -> None:
    judge = choice(Lab({"Add": 1e-3, "Mul": 3e-3}), total_s=0.0)
    model = model_of(TWICE)
    judge.begin(model, (LIKE,))
    assert apply_rules(model, [trusted_scale], Context(judge=judge)) == 2
