"""The best cover of what was measured."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import onnx
import onnx_ir as ir
import pytest

from graphwright.compiler.core.shapes import infer_shapes
from graphwright.compiler.kernel_table import Timing
from graphwright.compiler.partition.cut import Part
from graphwright.compiler.partition.search import Splitter, best_places, light_regions, regions_of, split_place

CHAIN = ["Relu", "Tanh", "Relu", "Tanh", "Conv", "Tanh", "Sigmoid", "Tanh"]
OVERHEAD = 0.005


def chain(*operators: str) -> ir.Model:
    """Each operator reads what the one before made."""
    weight = "w" if "Conv" in operators else ""
    lines = [f"v{place + 1} = {op}(v{place}{', w' if op == 'Conv' else ''})" for place, op in enumerate(operators)]
    header = "<float[1,1,1,1] w = {2}>" if weight else ""
    shape = "float[1,1,4,4]"
    text = f'<ir_version: 9, opset_import: ["" : 18]> g ({shape} v0) => ({shape} v{len(operators)}) {header} {{ {" ".join(lines)} }}'
    model = ir.from_proto(onnx.parser.parse_model(text))
    infer_shapes(model)
    return model


def costs(usual: dict[str, float], rival: dict[str, float]) -> Callable[[Part], Timing | None]:
    """Milliseconds for each operator on either backend; a part costs the sum of its operators and something more."""

    def measure(part: Part) -> Timing | None:
        before, after = (OVERHEAD + sum(table.get(node.op_type, 1.0) for node in part.model.graph) for table in (usual, rival))
        ratio = after / before
        return Timing("part", (), before, after, ratio, ratio, ratio)

    return measure


def moved_by(model: ir.Model, measure: Callable[[Part], Timing | None], seconds: float = 60.0, clock: Callable[[], float] | None = None) -> list[str]:
    splitter = Splitter(model, measure, seconds, clock or (lambda: 0.0))
    stretches = splitter.run(regions_of(model.graph, dict.fromkeys(model.graph, True), []))
    places = best_places([stretches], model.graph, "usual", "rival")
    return [node.op_type for node in model.graph if places is not None and places[node] == "rival"]


def test_all_moves_when_all_is_faster() -> None:
    model = chain(*CHAIN)
    assert moved_by(model, costs({}, dict.fromkeys(CHAIN, 0.5))) == CHAIN


def test_nothing_moves_when_nothing_is_faster() -> None:
    assert moved_by(chain(*CHAIN), costs({}, dict.fromkeys(CHAIN, 1.5))) == []


def test_one_slow_operator_stays_alone() -> None:
    found = moved_by(chain(*CHAIN), costs({}, {**dict.fromkeys(CHAIN, 0.5), "Conv": 9.0}))
    assert "Conv" not in found and len(found) == len(CHAIN) - 1


def test_the_cover_is_the_best_of_all_that_were_measured() -> None:
    model = chain(*CHAIN)
    splitter = Splitter(model, costs({}, {"Tanh": 0.2, "Relu": 3.0, "Conv": 3.0, "Sigmoid": 0.2}), 60.0, lambda: 0.0)
    (root,) = splitter.run(regions_of(model.graph, dict.fromkeys(model.graph, True), []))
    assert root.best_ms == pytest.approx(min(cost for cost, _ in covers(root)))
    assert sum(node.op_type in ("Tanh", "Sigmoid") for node in root.moved()) == len(root.moved()) == 5


def covers(stretch: object) -> Iterator[tuple[float, list[str]]]:
    """Every cover of a stretch by itself or covers of its halves, on either backend."""
    timing = stretch.timing  # type: ignore[attr-defined]
    yield timing.before_ms, []
    if timing.gains:
        yield timing.after_ms, []
    if stretch.halves:  # type: ignore[attr-defined]
        for (one, _), (other, _) in itertools.product(*map(covers, stretch.halves)):  # type: ignore[attr-defined]
            yield one + other, []


def test_what_cannot_be_built_whole_is_looked_into() -> None:
    plain = costs({}, dict.fromkeys(CHAIN, 0.5))

    def measure(part: Part) -> Timing | None:
        return None if any(node.op_type == "Conv" for node in part.model.graph) else plain(part)

    assert moved_by(chain(*CHAIN), measure) == [op for op in CHAIN if op != "Conv"]


def test_the_search_ends_when_its_time_is_up() -> None:
    ticks = itertools.count()
    asked: list[int] = []

    def measure(part: Part) -> Timing | None:
        asked.append(part.model.graph.num_nodes())
        return None

    moved_by(chain(*CHAIN), measure, 2.0, lambda: float(next(ticks)))
    assert len(asked) <= 5


def test_short_parts_are_not_looked_into() -> None:
    asked: list[int] = []
    slow = costs(dict.fromkeys(CHAIN, 0.001), dict.fromkeys(CHAIN, 1.0))

    def measure(part: Part) -> Timing | None:
        asked.append(part.model.graph.num_nodes())
        return slow(part)

    moved_by(chain(*CHAIN), measure)
    assert asked == [len(CHAIN)]


def test_units_that_belong_together_are_not_parted() -> None:
    model = chain("Relu", "Tanh", "Relu", "Tanh")
    nodes = list(model.graph)
    units = [(nodes[0], nodes[1], nodes[2]), (nodes[3],)]
    (region,) = regions_of(model.graph, dict.fromkeys(nodes, True), units)
    assert region == units
    assert split_place(region) == 1


def test_a_unit_of_which_a_part_is_refused_is_taken_apart() -> None:
    model = chain("Relu", "Tanh", "Relu", "Tanh")
    nodes = list(model.graph)
    regions = regions_of(model.graph, {node: node is not nodes[1] for node in nodes}, [tuple(nodes)])
    assert [[node for unit in region for node in unit] for region in regions] == [[nodes[0]], [nodes[2], nodes[3]]]


def test_what_lies_between_heavy_operators_is_a_region_each() -> None:
    model = chain("Relu", "Conv", "Tanh", "Relu", "Conv", "Tanh")
    found = light_regions(model.graph, dict.fromkeys(model.graph, True))
    assert [[node.op_type for unit in region for node in unit] for region in found] == [["Relu"], ["Tanh", "Relu"], ["Tanh"]]
