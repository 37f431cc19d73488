"""Random models from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterable

import onnx

from . import arithmetic, movement
from .arithmetic import Step
from .draft import BOOL, DOUBLE, FLOAT, HALF, INT32, INT64, OPSET, Draft, Value
from .fragments import glue

SHAPES = (
    (4,),
    (3, 4),
    ("N", 4),
    ("N", 1),
    ("N", "M"),
    (2, 3, 4),
    ("N", 3, 4),
    ("N", "M", 4),
    (1, 4, 4),
    ("N", 4, 4, 4),
    (1, 2, 4, 6),
    ("N", 1, 1, 4),
    (0, 4),
    (2, 0, 3),
    (),
)
STEPS: dict[Step, int] = {
    glue: 10,
    arithmetic.unary: 8,
    arithmetic.shaped: 3,
    arithmetic.stepping: 1,
    arithmetic.binary: 10,
    arithmetic.power: 2,
    arithmetic.comparison: 2,
    arithmetic.logic: 2,
    arithmetic.choice: 3,
    arithmetic.cast: 2,
    arithmetic.reduction: 4,
    arithmetic.softmax: 2,
    arithmetic.linear: 4,
    arithmetic.product: 2,
    arithmetic.convolution: 4,
    arithmetic.pool: 2,
    arithmetic.normalisation: 3,
    arithmetic.quantisation: 2,
    movement.transpose: 5,
    movement.reshape: 4,
    movement.squeeze: 3,
    movement.cut: 3,
    movement.split: 2,
    movement.concat: 3,
    movement.gather: 3,
    movement.expand: 2,
    movement.pad: 2,
    movement.depth: 1,
    movement.triangle: 1,
    movement.size: 2,
    movement.branch: 1,
    movement.loop: 1,
}
"""What a model is made of, and how often."""


def random_model(seed: int) -> onnx.ModelProto:
    """The model of a seed: a handful of inputs, up to some twenty steps, one to four outputs."""
    draft = Draft(random.Random(seed))
    draw = draft.draw
    for _ in range(draw.randint(1, 3)):
        dtype = draw.choices((FLOAT, DOUBLE, HALF, INT64, INT32, BOOL), (12, 1, 1, 1, 1, 1))[0]
        draft.input(dtype, draw.choice(SHAPES))
    if not any(value.dtype == FLOAT for value in draft.inputs):
        draft.input(FLOAT, draw.choice(SHAPES[:12]))
    steps, weights = list(STEPS), list(STEPS.values())
    for _ in range(draw.randint(2, 18)):
        draw.choices(steps, weights)[0](draft)
    return finished(draft)


def finished(draft: Draft) -> onnx.ModelProto:
    """The draft as a model. What nobody reads is an output, or stays as dead code."""
    made = [value for value in draft.values if value not in draft.inputs and not value.constant]
    if not made:
        made = [draft.add("Identity", [draft.inputs[0]], draft.inputs[0].dtype, draft.inputs[0].shape)]
    read = names_read(draft.nodes)
    loose = [value for value in made if value.name not in read]
    kept = [value for value in loose if draft.draw.random() < 0.8][-4:] or made[-1:]
    if draft.draw.random() < 0.3:
        kept = list(dict.fromkeys([*kept, draft.draw.choice(made)]))
    info = onnx.helper.make_tensor_value_info
    used = read | {value.name for value in kept}
    inputs = [info(value.name, value.dtype, value.shape) for value in draft.inputs if value.name in used]
    outputs = [_output(value) for value in kept]
    weights = [tensor for tensor in draft.initializers if tensor.name in used]
    graph = onnx.helper.make_graph(draft.nodes, "random", inputs, outputs, weights)
    domains = {node.domain for node in draft.nodes}
    imports = [onnx.helper.make_opsetid("", OPSET)] + ([onnx.helper.make_opsetid("com.microsoft", 1)] if "com.microsoft" in domains else [])
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)


def names_read(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Every name that nodes, and the graphs nested in them, read."""
    found: set[str] = set()
    for node in nodes:
        found.update(node.input)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found |= names_read(attribute.g.node) | {value.name for value in attribute.g.output}
    return found


def _output(value: Value) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(value.name, value.dtype, [None] * value.rank)
