"""A fusion plan as an SVG picture: a box for each kernel, a line for each value that goes from one to another. Nothing else is needed to draw it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import onnx_ir as ir

from .core.graph import subgraphs_of
from .core.planning.mapping import Mapping
from .core.planning.plan import Block, Plan
from .plan_layout import Key, Layout, lay_out
from .plan_report import PlanReport, kernels_of

__all__ = ["draw"]

LETTER, LINE, MARGIN = 6.2, 14.0, 8.0
SHOWN = 7
"""Operators that a box lists; the rest are counted."""
COLOURS = {
    Mapping.ONE_TO_ONE: "#e8f1fb",
    Mapping.REORGANIZE: "#eef4e4",
    Mapping.SHUFFLE: "#e0f0e6",
    Mapping.ONE_TO_MANY: "#fdf3d8",
    Mapping.MANY_TO_MANY: "#fbe3d6",
    Mapping.OPAQUE: "#e9e9ec",
}
PORT = "#ffffff"
STYLE = "text{font:11px ui-monospace,Menlo,Consolas,monospace;fill:#222}.t{font-weight:bold}.s{fill:#666}rect{stroke:#777}path{fill:none;stroke:#8a93a6}"
UNITS = ("B", "KiB", "MiB", "GiB")


def draw(report: PlanReport) -> str:
    """The whole plan as the text of an SVG file; nested graphs stand below the main one. What a box leaves out is in its tooltip."""
    parts: list[str] = []
    width, height = 720.0, 54.0
    for plan in report.plans:
        picture, layout = _graph(plan)
        title = f"{plan.graph.name or 'graph'}: {plan.operators} operators, {plan.kernels} kernels"
        parts.append(f'<text class="t" x="18" y="{height + 12:.0f}">{escape(title)}</text>')
        parts.append(f'<g transform="translate(0,{height + 18:.0f})">{picture}</g>')
        width, height = max(width, layout.width), height + layout.height + 40
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">'
    tip = '<path d="M0 0L8 4L0 8z" style="fill:#8a93a6"/>'
    arrow = f'<marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">{tip}</marker>'
    back = '<rect width="100%" height="100%" fill="#fff" style="stroke:none"/>'
    note = f'<text x="18" y="20">{escape(report.summary())}</text>{_legend()}'
    return "\n".join([head, f"<style>{STYLE}</style><defs>{arrow}</defs>{back}{note}", *parts, "</svg>\n"])


def _legend() -> str:
    spots, place = [], 18.0
    for mapping, colour in COLOURS.items():
        spots.append(f'<rect x="{place:.0f}" y="30" width="12" height="12" fill="{colour}"/><text class="s" x="{place + 17:.0f}" y="40">{mapping.title}</text>')
        place += 36 + LETTER * len(mapping.title) * 1.08
    return "".join(spots)


def _graph(plan: Plan) -> tuple[str, Layout]:
    blocks = kernels_of(plan)
    owner: dict[ir.Value, Key] = {value: place for place, block in enumerate(blocks) for node in block.nodes for value in node.outputs}
    boxes: dict[Key, list[str]] = {}
    edges: dict[tuple[Key, Key], None] = {}
    read = {value for block in blocks for value in _read(block)}
    for value in plan.graph.inputs:
        if value in read:
            owner[value] = ("in", value.name)
            boxes["in", value.name] = [value.name or ""]
    for place, block in enumerate(blocks):
        boxes[place] = _lines(block)
        edges.update({(owner[value], place): None for value in _read(block) if value in owner and owner[value] != place})
    for index, value in enumerate(plan.graph.outputs):
        boxes["out", index] = [value.name or ""]
        if value in owner:
            edges[owner[value], ("out", index)] = None
    sizes = {key: (max(map(len, lines)) * LETTER * 1.08 + 2 * MARGIN, len(lines) * LINE + MARGIN) for key, lines in boxes.items()}
    layout = lay_out(sizes, list(edges))
    drawn = [_curve(points, sizes[one][1], sizes[other][1]) for (one, other), points in layout.lines.items()]
    drawn += [_box(boxes[key], layout.centres[key], sizes[key], blocks[key] if isinstance(key, int) else None) for key in boxes]
    return "".join(drawn), layout


def _read(block: Block) -> list[ir.Value]:
    """What a block reads, in the graphs that a node holds too."""
    nested = [value for node in block.nodes for graph in subgraphs_of(node) for inner in graph.all_nodes() for value in inner.inputs if value is not None]
    nested += [value for node in block.nodes for graph in subgraphs_of(node) for value in graph.outputs]
    return [*block.inputs, *nested]


def _lines(block: Block) -> list[str]:
    names = [node.op_type for node in block.nodes]
    shown = names[:SHOWN] + ([f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else [])
    return [*shown, f"saves {_size(block.saved_bytes)}"] if block.saved_bytes else shown


def _size(count: int) -> str:
    amount, unit = float(count), 0
    while amount >= 1024 and unit < len(UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.0f} {UNITS[unit]}" if unit == 0 else f"{amount:.1f} {UNITS[unit]}"


def _box(lines: Sequence[str], centre: tuple[float, float], size: tuple[float, float], block: Block | None) -> str:
    left, top = centre[0] - size[0] / 2, centre[1] - size[1] / 2
    colour, corner = (COLOURS[block.mapping], 4) if block is not None else (PORT, 9)
    told = f"<title>{escape(block.mapping.title)}: {escape(block.reason)}</title>" if block is not None else ""
    heavy = ' style="stroke-width:1.6"' if block is not None and block.fused else ""
    rows = "".join(
        f'<text x="{left + MARGIN:.1f}" y="{top + MARGIN / 2 + LINE * (row + 0.78):.1f}"{" class=s" if text.startswith("saves ") else ""}>{escape(text)}</text>'
        for row, text in enumerate(lines)
    ).replace("class=s", 'class="s"')
    return f'<g>{told}<rect x="{left:.1f}" y="{top:.1f}" width="{size[0]:.1f}" height="{size[1]:.1f}" rx="{corner}" fill="{colour}"{heavy}/>{rows}</g>'


def _curve(points: Sequence[tuple[float, float]], above: float, below: float) -> str:
    first, last = points[0], points[-1]
    route = [(first[0], first[1] + above / 2), *points[1:-1], (last[0], last[1] - below / 2)]
    text = f"M{route[0][0]:.1f} {route[0][1]:.1f}"
    for (x, y), (to_x, to_y) in zip(route, route[1:], strict=False):
        middle = (y + to_y) / 2
        text += f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}"
    return f'<path d="{text}" marker-end="url(#a)"/>'
