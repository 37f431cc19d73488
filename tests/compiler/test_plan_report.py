"""Plans for people: what is printed, and a picture in which nothing lies on anything else."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import numpy as np
import onnx_ir as ir
import pytest
from rich.console import Console

from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.planning.plan import Constraints
from graphwright.compiler.plan_drawing import draw
from graphwright.compiler.plan_layout import lay_out
from graphwright.compiler.plan_report import plan_as_compiled, plan_as_it_stands
from graphwright.compiler.plan_table import print_plan
from graphwright.compiler.request import Request

HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'
SVG = "{http://www.w3.org/2000/svg}"
LAYER = """g (float[4,8] x, float[8,8] v, float[8,8] w, bool c) => (float[4,8] y) <float[8] b = {1,2,3,4,5,6,7,8}> {
    m = MatMul(x, v) a = Add(m, b) e = Erf(a) n = MatMul(e, w) s = Softmax(n)
    r = If (c) <then_branch = p () => (float[4,8] q) { k = Neg(s) q = Abs(k) }, else_branch = o () => (float[4,8] z) { z = Cos(s) }>
    y = Add(r, x) }"""


def read(text: str) -> ir.Model:
    model = ir.from_onnx_text(HEAD + text)
    bind_opsets(model)
    return model


def chain(length: int) -> ir.Model:
    """Many blocks of two, each read again much later."""
    lines = [f"a{step} = MatMul(b{step}, w) c{step} = Relu(a{step}) b{step + 1} = Add(c{step}, b{max(0, step - 7)})" for step in range(length)]
    return read(f"g (float[4,4] b0, float[4,4] w) => (float[4,4] b{length}) {{ {' '.join(lines)} }}")


def test_the_report_counts_operators_kernels_and_bytes() -> None:
    report = plan_as_it_stands(read(LAYER))
    assert [block.title for block in report.blocks()] == ["MatMul+Add+Erf", "MatMul", "Softmax", "If", "Add", "Neg+Abs", "Cos"]
    assert (report.operators, report.kernels, report.saved_bytes) == (10, 7, 3 * 4 * 8 * 4)
    assert report.summary() == "10 operators become 7 kernels (1.43 each); 0.00 MiB of intermediate results are not stored"


def test_bytes_of_unknown_sizes_are_a_bound() -> None:
    report = plan_as_it_stands(read("g (float[N,8] x) => (float[N,8] y) { a = Relu(x) y = Neg(a) }"))
    assert report.saved_bytes == 32 and "at least" in report.summary()


def test_every_block_says_why_it_is_as_it_is() -> None:
    entries = plan_as_it_stands(read(LAYER)).entries()
    first = entries["blocks"][0]  # type: ignore[index]
    assert first["operators"] == ["MatMul", "Add", "Erf"] and first["mapping"] == "Many-to-Many"
    assert {"operator": "MatMul", "reason": "MatMul reads each element many times, and would have 21 additions done anew each time"} in first["left"]
    assert [step["way"] for step in first["taken"]] == ["seed", "behind", "before"]


def test_what_is_compiled_is_planned_as_the_passes_leave_it() -> None:
    text = "g (float[4] x) => (float[4] y) { a = Identity(x) b = Relu(a) c = Identity(b) y = Neg(c) }"
    report = plan_as_compiled(read(text), None, Request(target="onnx"))
    assert (report.came_in, report.operators, report.kernels) == (4, 2, 1)
    assert "4.00 of the 4 that came in" in report.summary()


def test_the_table_names_blocks_and_what_stays_alone() -> None:
    page = io.StringIO()
    print_plan(plan_as_it_stands(read(LAYER)), Console(file=page, width=200, color_system=None))
    assert "MatMul, Add, Erf" in page.getvalue() and "from Add" in page.getvalue()
    assert "alone: Add 1, Cos 1, If 1, MatMul 1, Softmax 1" in page.getvalue()


@pytest.mark.parametrize("model", [read(LAYER), chain(150)], ids=["a layer", "300 blocks"])
def test_the_picture_is_xml_with_a_box_for_each_kernel(model: ir.Model) -> None:
    report = plan_as_it_stands(model, constraints=Constraints(operators=2))
    root = ElementTree.fromstring(draw(report))
    boxes = [group for group in root.iter(f"{SVG}g") if group.find(f"{SVG}title") is not None]
    assert len(boxes) == report.kernels
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert all(any(node.op_type == text for text in texts) for block in report.blocks() for node in block.nodes)
    assert float(root.get("height", "0")) < 400 + 120 * report.kernels


def test_names_that_are_markup_are_escaped() -> None:
    model = read("g (float[4] x) => (float[4] y) { y = Relu(x) }")
    model.graph.inputs[0].name = 'x<&">'
    ElementTree.fromstring(draw(plan_as_it_stands(model)))


@pytest.mark.parametrize("seed", range(5))
def test_no_box_lies_on_another_and_all_lines_go_down(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = 40
    sizes = {place: (float(random.integers(30, 120)), float(random.integers(20, 100))) for place in range(count)}
    edges = [(one, other) for one in range(count) for other in range(one + 1, count) if random.random() < 0.08]
    found = lay_out(sizes, edges)
    boxes = [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for (x, y), (w, h) in zip(found.centres.values(), sizes.values(), strict=True)]
    for place, one in enumerate(boxes):
        assert one[0] >= 0 and one[1] >= 0 and one[2] <= found.width and one[3] <= found.height
        for other in boxes[place + 1 :]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    for points in found.lines.values():
        assert all(above[1] < below[1] for above, below in zip(points, points[1:], strict=False))


def test_a_wide_layer_is_broken_into_rows() -> None:
    found = lay_out(dict.fromkeys(range(200), (100.0, 20.0)), [])
    assert found.width < 3000 and len({y for _, y in found.centres.values()}) > 10
