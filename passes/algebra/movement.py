"""Work on elements goes to where there are fewest of them: behind a Slice or Gather, before an Expand, Tile, Pad or enlarging Resize.

Moves only ever go this way, so they end; that something shrinks or grows is for the pass to see, which weighs what a move saves.
"""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import same_shape
from ...compiler.core.drift import EXACT, ROUNDING, Drift
from ...compiler.core.graph import attribute, is_op, producer, scalar
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, Rule, rule
from ...compiler.core.shapes import known_ints
from .reductions import FUSED_ACTIVATIONS, follows_linear

EXACTLY = ("Abs", "Neg", "Relu", "Floor", "Ceil", "Round", "Sign", "Not", "BitwiseNot", "IsNaN", "IsInf", "Cast", "Clip")
"""Functions of one element that come out the same wherever it stands."""
ROUNDED = (
    "Exp", "Log", "Sqrt", "Reciprocal", "Sigmoid", "Tanh", "Erf", "Gelu", "Softplus", "Elu", "Selu", "Celu", "Mish", "Swish", "HardSwish", "HardSigmoid",
    "LeakyRelu", "ThresholdedRelu", "Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Asinh", "Softsign", "QuickGelu", "FastGelu",
)  # fmt: skip
"""Functions of one element whose last bit may depend on where in a vector it stands."""
KEEPS_ZERO = frozenset({"Abs", "Relu", "Floor", "Ceil", "Round", "Sign", "Sqrt", "Tanh", "Erf", "Elu", "Mish", "Swish", "HardSwish", "LeakyRelu", "Sin", "Tan"})
BINARY = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "And", "Or", "Xor", "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Where")
PICKERS = ("Slice", "Gather", "GatherND", "GatherElements")


def picked_from(m: Match, *kinds: str) -> ir.Node | Skip | None:
    """The operator, one of ``kinds``, that makes what the root of the match picks from; claimed for the match."""
    source = m.root.inputs[0]
    node = source.producer() if source is not None else None
    if source is None or node is None or node.graph is not m.root.graph or not _is_one(node, kinds):
        return None
    if source is not node.outputs[0] or len(source.uses()) != 1 or source.is_graph_output():
        return skip("'%s' is also needed elsewhere", source.name)
    return m.take(node)


def _is_one(node: ir.Node, kinds: tuple[str, ...]) -> bool:
    return node.op_type in kinds and (is_op(node, *kinds) or node.op_type in ("QuickGelu", "FastGelu"))


def _only_scalars(node: ir.Node) -> bool:
    """Whether all inputs but the first are single numbers of rank 0, as the bounds of a Clip."""
    ranks = [None if value.shape is None else len(value.shape) for value in node.inputs[1:] if value is not None]
    return not any(ranks) and None not in ranks


_PICKS = {
    "Slice": ("float[N,2]", "Slice(t, s, e, x1)"),
    "Gather": ("float[N,2]", "Gather<axis=1>(t, i)"),
    "GatherND": ("float[2]", "GatherND(t, ij)"),
    "GatherElements": ("float[1,2]", "GatherElements<axis=1>(t, ii)"),
}
_PLACES = "int64[1] s = {1}, int64[1] e = {3}, int64[1] x1 = {1}, int64[2] i = {2,0}, int64[2,2] ij = {0,1,0,2}, int64[1,2] ii = {0,2}"


def _function_after(picker: str, functions: tuple[str, ...], drift: Drift, name: str) -> Rule:
    def build(op: Build, m: Match) -> Result:
        node = picked_from(m, *functions)
        if node is None or isinstance(node, Skip):
            return node
        if not _only_scalars(node) or node.inputs[0] is None:
            return skip("it has more operands")
        if follows_linear(node.inputs[0]) and is_op(node, *FUSED_ACTIVATIONS):
            return skip("what makes '%s' takes the function in", node.inputs[0].name)
        return op.like(node, op.like(m.root, node.inputs[0], *m.root.inputs[1:]), *node.inputs[1:])  # type: ignore[arg-type]

    build.__name__ = f"{picker.lower()}_before_{name}"
    build.__doc__ = f"{picker}(f(x)) -> f({picker}(x)) for {'exact' if drift is EXACT else 'other'} functions f of one element"
    made, call = _PICKS[picker]
    given = "float[1,3]" if picker in ("GatherND", "GatherElements") else "float[N,3]"
    text = [f"g ({given} x) => ({made} y) <{_PLACES}> {{ t = {function}(x) y = {call} }}" for function in (functions[2], functions[0])]
    twice = f"g ({given} x) => ({made} y, {given} t) <{_PLACES}> {{ t = {functions[2]}(x) y = {call} }}"
    activation = "Relu" if drift is EXACT else "Sigmoid"
    conv = f"g (float[1,3,4,4] x, float[3,3,1,1] w) => (float[1,2,4,4] z) <{_PLACES}> {{ r = Conv(x, w) t = {activation}(r) y = {call} z = Identity(y) }}"
    leaves = [twice, conv] if picker in ("Slice", "Gather") else [twice]
    return rule(picker, drift=drift, examples=text[: 2 if drift is EXACT else 1], leaves=leaves, opset=13)(build)


FUNCTIONS_AFTER = tuple(_function_after(picker, EXACTLY, EXACT, "exact_function") for picker in PICKERS) + tuple(
    _function_after(picker, ROUNDED[2:], ROUNDING, "function") for picker in PICKERS
)


def picked_axes(node: ir.Node) -> tuple[tuple[int, ...], bool] | None:
    """The axes that a Slice or Gather picks along, counted from the start, and whether the axis goes; None when they are not known."""
    source = node.inputs[0]
    if source is None or source.shape is None:
        return None
    rank = len(source.shape)
    if is_op(node, "Gather"):
        index = node.inputs[1]
        if index is None or index.shape is None or len(index.shape) > 1:
            return None
        return (int(attribute(node, "axis", 0)) % rank,), len(index.shape) == 0  # type: ignore[call-overload]
    axes = known_ints(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] is not None else range(rank)
    if axes is None or not all(isinstance(axis, int) for axis in axes):
        return None
    return tuple(int(axis) % rank for axis in axes), False  # type: ignore[arg-type]


def _picked_operand(op: Build, m: Match, value: ir.Value, axes: tuple[int, ...], goes: bool) -> ir.Value | Skip:
    """What to combine of an operand: picked from if it has the whole shape, itself if it does not vary along the axes."""
    whole = m.root.inputs[0].shape  # type: ignore[union-attr]
    if same_shape(value.shape, whole):
        return op.like(m.root, value, *m.root.inputs[1:])  # type: ignore[return-value]
    if value.shape is None or whole is None:
        return skip("the rank of '%s' is not known", value.name)
    missing = len(whole) - len(value.shape)
    present = [axis - missing for axis in axes if axis >= missing]
    if (goes and missing <= max(axes)) or any(value.shape[axis] != 1 for axis in present):
        return skip("'%s' has shape %s, which varies along the axes %s", value.name, value.shape, axes)
    return value


def _has_whole(m: Match, node: ir.Node) -> bool:
    whole = m.root.inputs[0].shape  # type: ignore[union-attr]
    return any(value is not None and same_shape(value.shape, whole) for value in node.inputs)


@rule(
    "Slice",
    "Gather",
    drift=ROUNDING,
    opset=13,
    examples=[
        "g (float[N,3] x, float[N,3] z) => (float[3] y) <int64 i = {0}> { t = Add(x, z) y = Gather(t, i) }".replace("N", "2"),
        "g (float[N,3] x, float[3] z) => (float[N,1] y) <int64[1] s = {1}, int64[1] e = {2}, int64[1] a = {0}> { t = Mul(x, z) y = Slice(t, s, e, a) }".replace(
            "N,1]", "M,3]"
        ),
        "g (bool[2,1] c, float[2,3] x) => (float[2,2] y) <int64[2] i = {2,0}, float w = {0.5}> { t = Where(c, x, w) y = Gather<axis=1>(t, i) }",
    ],
    leaves=[
        "g (float[2,3] x, float[3] z) => (float[2,2] y) <int64[2] i = {2,0}> { t = Add(x, z) y = Gather<axis=1>(t, i) }",
        "g (float[2,3] x, float[1,3] z) => (float[3] y) <int64 i = {0}> { t = Add(x, z) y = Gather(t, i) }",
        "g (float[2,3] x, float[N,3] z) => (float[2,2] y) <int64[2] i = {2,0}> { t = Add(x, z) u = Neg(t) v = Gather<axis=1>(t, i) w = Gather<axis=1>(u, i)"
        " y = Add(v, w) }",
    ],
)
def pick_before_combining(op: Build, m: Match) -> Result:
    """Slice(f(x, z)) -> f(Slice(x), Slice(z)), and the same for Gather; an operand that does not vary along the axis stays whole"""
    node = picked_from(m, *BINARY)
    if node is None or isinstance(node, Skip):
        return node
    found = picked_axes(m.root)
    if found is None or not found[0] or not _has_whole(m, node):
        return skip("the axes, or the shapes of the operands, are not known")
    if any(producer(value, "Conv", "ConvTranspose") is not None for value in node.inputs):
        return skip("a Conv takes the sum in")
    operands = [_picked_operand(op, m, value, *found) for value in node.inputs if value is not None]
    for item in operands:
        if isinstance(item, Skip):
            return item
    return op.like(node, *operands)  # type: ignore[arg-type]


@rule(
    "Slice",
    "Gather",
    drift=ROUNDING,
    opset=13,
    examples=[
        "g (float[2,4,3] x, float[3,5] w) => (float[2,5] y) <int64 i = {-1}> { t = MatMul(x, w) y = Gather<axis=1>(t, i) }",
        "g (float[4,3] x, float[3,5] w, float[5] b) => (float[2,5] y) <int64[2] i = {2,0}> { t = Gemm(x, w, b) y = Gather(t, i) }",
        "g (float[2,N,3] x) => (float[2,1,3] y) <int64[1] s = {-1}, int64[1] e = {9223372036854775807}, int64[1] a = {1}>"
        " { t = Softmax(x) y = Slice(t, s, e, a) }".replace("[2,1,3] y", "[2,M,3] y"),
        "g (float[2,4,3] x) => (float[2,4] y) <int64 i = {-1}> { t = Softmax<axis=0>(x) y = Gather<axis=2>(t, i) }",
        "g (float[2,4,3] x, float[3] k, float[3] b) => (float[2,3] y) <int64 i = {0}> { t = LayerNormalization<axis=2>(x, k, b) y = Gather<axis=1>(t, i) }",
    ],
    leaves=[
        "g (float[2,4,3] x, float[3,5] w) => (float[2,4] y) <int64 i = {-1}> { t = MatMul(x, w) y = Gather<axis=2>(t, i) }",
        "g (float[4,3] x, float[3,5] w) => (float[5] y) <int64 i = {0}> { t = Gemm(x, w) y = Gather(t, i) }",
        "g (float[4,3] x, float[3,5] w, float[4,1] b) => (float[2,5] y) <int64[2] i = {2,0}> { t = Gemm(x, w, b) y = Gather(t, i) }",
        "g (float[3,4] x, float[3,5] w) => (float[2,5] y) <int64[2] i = {2,0}> { t = Gemm<transA=1>(x, w) y = Gather(t, i) }",
        "g (float[2,4,3] x, float[2,3,5] w) => (float[2,5] y) <int64 i = {-1}> { t = MatMul(x, w) y = Gather<axis=1>(t, i) }",
        "g (float[2,4,3] x) => (float[2,4,2] y) <int64[2] i = {2,0}> { t = Softmax(x) y = Gather<axis=2>(t, i) }",
        "g (float[2,4,3] x, float[4,3] k) => (float[2,3] y) <int64 i = {0}> { t = LayerNormalization<axis=1>(x, k) y = Gather<axis=1>(t, i) }",
    ],
)
def pick_rows_first(op: Build, m: Match) -> Result:
    """Slice(x @ w) -> Slice(x) @ w along an axis of rows, also before Gemm, Softmax and normalisations, and the same for Gather"""
    node = picked_from(m, "MatMul", "Gemm", "Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization")
    if node is None or isinstance(node, Skip):
        return node
    found, source = picked_axes(m.root), node.inputs[0]
    if found is None or not found[0] or source is None or source.shape is None:
        return skip("the axes are not known")
    axes, goes = found
    rank = len(source.shape)
    refusal = _crosses(node, rank, axes, goes)
    if refusal is not None:
        return refusal
    rows = op.like(m.root, source, *m.root.inputs[1:])
    if is_op(node, "MatMul", "Gemm"):
        return op.like(node, rows, *node.inputs[1:])  # type: ignore[arg-type]
    axis = int(attribute(node, "axis", -1)) % rank  # type: ignore[call-overload]
    return op.like(node, rows, *node.inputs[1:], axis=axis - (goes and axes[0] < axis))  # type: ignore[arg-type]


def _crosses(node: ir.Node, rank: int, axes: tuple[int, ...], goes: bool) -> Skip | None:
    """Why picking along the axes is not picking rows."""
    if any(value.name and (value.uses() or value.is_graph_output()) for value in node.outputs[1:]):
        return skip("its other outputs are in use")
    if is_op(node, "Gemm"):
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        steady = bias is None or (bias.shape is not None and (len(bias.shape) < 2 or bias.shape[0] == 1))
        return None if axes == (0,) and not goes and not attribute(node, "transA", 0) and steady else skip("it picks other than rows of a plain Gemm")
    if is_op(node, "MatMul"):
        weight = node.inputs[1]
        matrix = weight is not None and weight.shape is not None and len(weight.shape) == 2
        return None if matrix and max(axes) < rank - 1 else skip("it picks along the axis of the products, or the right operand is no matrix")
    axis = int(attribute(node, "axis", -1)) % rank  # type: ignore[call-overload]
    last = rank if is_op(node, "LayerNormalization", "RMSNormalization") else axis + 1
    return skip("it picks along a normalised axis") if any(axis <= item < last for item in axes) else None


_GROWERS = ("Expand", "Tile", "Resize", "Pad")
_GROWN = {
    "Expand": ("float[N,1]", "float[N,3]", "Expand(x, to)"),
    "Tile": ("float[N,2]", "float[N,6]", "Tile(x, by)"),
    "Resize": ("float[1,1,N,2]", "float[1,1,M,4]", 'Resize<mode="nearest">(x, , twice)'),
    "Pad": ("float[N,2]", "float[N,4]", "Pad(x, pads)"),
}
_SIZES = "int64[2] to = {1,3}, int64[2] by = {1,3}, float[4] twice = {1,1,2,2}, int64[4] pads = {0,1,0,1}"


def _before_growing(grower: str, functions: tuple[str, ...], drift: Drift, name: str) -> Rule:
    def build(op: Build, m: Match) -> Result:
        node = picked_from(m, grower)
        if node is None or isinstance(node, Skip):
            return node
        if not _only_scalars(m.root) or node.inputs[0] is None:
            return skip("it has more operands")
        refusal = _makes_elements(node, m.root)
        return refusal or op.like(node, op.like(m.root, node.inputs[0], *m.root.inputs[1:]), *node.inputs[1:])  # type: ignore[arg-type]

    build.__name__ = f"{name}_before_{grower.lower()}"
    build.__doc__ = f"f({grower}(x)) -> {grower}(f(x)) for {'exact' if drift is EXACT else 'other'} functions f of one element"
    given, made, call = _GROWN[grower]
    function = "Tanh" if drift is ROUNDING else "Relu"
    text = f"g ({given} x) => ({made} y) <{_SIZES}> {{ t = {call} y = {function}(t) }}"
    leaves = [f"g ({given} x) => ({made} y, {made} t) <{_SIZES}> {{ t = {call} y = {function}(t) }}"]
    if grower == "Pad":
        leaves.append(f"g ({given} x) => ({made} y) <{_SIZES}> {{ t = {call} y = {'Exp' if drift is ROUNDING else 'Neg'}(t) }}")
        leaves.append(f"g ({given} x) => ({made} y) <{_SIZES}, float one = {{1}}> {{ t = Pad(x, pads, one) y = {function}(t) }}")
    if grower == "Resize":
        leaves.append(f"g ({given} x) => ({made} y) <{_SIZES}> {{ t = {call.replace('nearest', 'linear')} y = {function}(t) }}")
    roots = [item for item in functions if item not in ("QuickGelu", "FastGelu")] + ["com.microsoft::QuickGelu", "com.microsoft::FastGelu"]
    return rule(*(roots if drift is ROUNDING else functions), drift=drift, examples=[text], leaves=leaves, opset=13)(build)


def _makes_elements(node: ir.Node, function: ir.Node) -> Skip | None:
    """Why the result holds elements other than those of ``x``, which the function would change."""
    if is_op(node, "Resize"):
        plain = attribute(node, "mode", "nearest") == "nearest" and attribute(node, "coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize"
        return None if plain else skip("it interpolates")
    if is_op(node, "Pad") and attribute(node, "mode", "constant") == "constant":
        value = node.inputs[2] if len(node.inputs) > 2 else None
        zero = value is None or scalar(value) == 0
        return None if zero and is_op(function, *KEEPS_ZERO) else skip("the padding would change")
    return None


BEFORE_GROWING = tuple(_before_growing(grower, EXACTLY, EXACT, "exact_function") for grower in _GROWERS) + tuple(
    _before_growing(grower, ROUNDED, ROUNDING, "function") for grower in _GROWERS
)
