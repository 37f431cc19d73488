"""The algebra of attention (Vaswani et al. 2017): softmax(a q k' + mask) v, followed from the product with the values back to queries and keys.

Nothing here rewrites; the rules that raise it to the standard operator and those that lower it to a kernel both start from a `Core`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import Dim, broadcasts_into, same, same_shape
from ...compiler.core.graph import attribute, is_op, producer, scalar
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match

MAX_STEPS = 16
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


@dataclass(frozen=True)
class Term:
    """Something added to the scores, times ``factor``."""

    value: ir.Value
    factor: float


@dataclass(frozen=True)
class Hidden:
    """``source`` times ``factor``, replaced by ``number`` wherever ``condition`` is not ``kept``."""

    source: ir.Value
    condition: ir.Value
    kept: bool
    number: float
    factor: float


@dataclass
class Core:
    """softmax(scale q kt + terms, hidden) v.

    With ``cap`` the product goes through cap tanh(x / cap) before anything is added; ``viewed`` when it is reshaped to split or merge batch and heads.
    ``turned`` when ``kt`` is K itself, and the product transposes it.
    """

    q: ir.Value
    kt: ir.Value
    v: ir.Value
    product: ir.Value
    scale: float = 1.0
    cap: float | None = None
    guarded: bool = False
    viewed: bool = False
    turned: bool = False
    terms: list[Term] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)


@dataclass(frozen=True)
class Sizes:
    """The dimensions of an attention: ``q`` is [batch, heads, queries, size], ``k`` and ``v`` have ``kv_heads`` and ``keys``."""

    batch: Dim
    heads: Dim
    kv_heads: Dim
    queries: Dim
    keys: Dim
    size: Dim
    value_size: Dim

    @property
    def scores(self) -> tuple[Dim, ...]:
        """The shape of the scores."""
        return (self.batch, self.heads, self.queries, self.keys)

    @property
    def all(self) -> tuple[Dim, ...]:
        """Every dimension."""
        return (*self.scores, self.kv_heads, self.size, self.value_size)


def find_core(m: Match, weighted: ir.Node) -> Core | Skip | None:
    """The attention that ends in ``weighted``, the product with the values; None when no softmax leads there."""
    if not is_product(weighted) or weighted.inputs[1] is None or attribute(weighted, "transB", 0) or attribute(weighted, "alpha", 1.0) != 1.0:
        return None
    softmax, guarded = _softmax_before(m, weighted.inputs[0])
    if softmax is None:
        return None
    rank = _rank(softmax.outputs[0])
    if rank is None or attribute(softmax, "axis", -1) not in (-1, rank - 1):
        return skip("the softmax is not over the keys")
    m.take(weighted)
    m.take(softmax)
    found = _scores(m, softmax.inputs[0])
    if isinstance(found, Skip):
        return found
    found.v, found.guarded = weighted.inputs[1], guarded
    if found.q.dtype not in FLOATS or found.v.dtype != found.q.dtype:
        return skip("the kernels take float and float16, not %s", found.q.dtype)
    if not (np.isfinite(found.scale) and found.scale > 0):
        return skip("the scale is %s", found.scale)
    return found


def _softmax_before(m: Match, value: ir.Value | None) -> tuple[ir.Node | None, bool]:
    """The Softmax behind casts and a guard against NaN, and whether there is a guard."""
    guarded = False
    for _ in range(4):
        node = producer(value, "Softmax", "Cast", "Where")
        if node is None or node.op_type == "Softmax":
            return node, guarded
        m.take(node)
        value = node.inputs[0]
        if node.op_type == "Where":
            asked = producer(node.inputs[0], "IsNaN")
            if asked is None or asked.inputs[0] is not node.inputs[2] or scalar(node.inputs[1]) != 0:
                return None, False
            m.take(asked)
            value, guarded = node.inputs[2], True
    return None, False


def _scores(m: Match, value: ir.Value | None) -> Core | Skip:
    """Peel everything off the scores down to the product of Q and K, claiming each node on the way."""
    terms: list[Term] = []
    hidden: list[Hidden] = []
    factor, cap, viewed = 1.0, None, False
    for _ in range(MAX_STEPS):
        node = value.producer() if value is not None else None
        if node is None:
            return skip("'%s' is no product of Q and K", value.name if value is not None else "nothing")
        if is_product(node):
            v = product = node.outputs[0]
            core = Core(node.inputs[0], node.inputs[1], v, product, factor, cap, viewed=viewed, terms=terms, hidden=hidden)  # type: ignore[arg-type]
            return _product(m, node, core)
        outcome = _step(node, factor, terms, hidden, cap is not None)
        if isinstance(outcome, Skip):
            return outcome
        m.take(node)
        if is_op(node, "Tanh"):
            cap = factor
        viewed = viewed or is_op(node, "Reshape")
        value, factor = outcome
    return skip("too much lies between the softmax and the product of Q and K")


def _step(node: ir.Node, factor: float, terms: list[Term], hidden: list[Hidden], capped: bool) -> tuple[ir.Value, float] | Skip:
    """The scores before one node, and the factor they are multiplied by from there on."""
    if is_op(node, "Cast"):
        source = node.inputs[0]
        return (source, factor) if source is not None and source.dtype in FLOATS else skip("'%s' is cast from %s", node.name, source and source.dtype)
    if is_op(node, "Reshape") and node.inputs[0] is not None and _same_end(node.inputs[0], node.outputs[0]):
        return node.inputs[0], factor
    if is_op(node, "Mul", "Div") and (scaled := unscaled_once(node)) is not None:
        return scaled[0], factor * scaled[1]
    if is_op(node, "Tanh") and node.inputs[0] is not None and not capped and factor > 0:
        return node.inputs[0], factor
    if is_op(node, "Add") and not capped:
        return _added(node, factor, terms)
    if is_op(node, "Where") and not capped:
        return _masked(node, factor, hidden)
    return skip("%s between the softmax and the product of Q and K", node.op_type)


def _added(node: ir.Node, factor: float, terms: list[Term]) -> tuple[ir.Value, float] | Skip:
    source = next((item for item in node.inputs if _leads_to_product(item)), None)
    if source is None:
        return skip("neither operand of '%s' is a product of Q and K", node.name)
    other = next(item for item in node.inputs if item is not source) if node.inputs[0] is not node.inputs[1] else source
    if other is None or not _stays(source, node, other):
        return skip("'%s' may broadcast the scores", node.name)
    if other.dtype != source.dtype:
        return skip("the mask is %s", other.dtype)
    terms.append(Term(other, factor))
    return source, factor


def _masked(node: ir.Node, factor: float, hidden: list[Hidden]) -> tuple[ir.Value, float] | Skip:
    condition, yes, no = node.inputs
    kept = _leads_to_product(yes)
    source, number = (yes, scalar(no)) if kept else (no, scalar(yes))
    if condition is None or source is None or number is None or not _leads_to_product(source):
        return skip("'%s' does not replace hidden scores by a number", node.name)
    if not _stays(source, node, condition):
        return skip("'%s' may broadcast the scores", node.name)
    hidden.append(Hidden(source, condition, kept, float(number) * factor, factor))
    return source, factor


def _stays(source: ir.Value, node: ir.Node, other: ir.Value) -> bool:
    return same_shape(source.shape, node.outputs[0].shape) and broadcasts_into(other.shape, source.shape)


def _leads_to_product(value: ir.Value | None) -> bool:
    """Whether a MatMul of two computed values makes ``value``, but for what a mask or a scale does to it."""
    frontier = [value]
    for _ in range(MAX_STEPS):
        if not frontier:
            return False
        value = frontier.pop()
        if is_product(producer(value)):
            return True
        node = producer(value, "Mul", "Div", "Add", "Where", "Cast", "Tanh", "Reshape")
        if node is None:
            continue
        frontier.extend(node.inputs[:1] if node.op_type == "Reshape" else node.inputs)
    return False


def _same_end(before: ir.Value, after: ir.Value) -> bool:
    """Whether a reshape leaves the last two dimensions alone."""
    return before.shape is not None and after.shape is not None and min(_rank(before) or 0, _rank(after) or 0) >= 3 and ends_alike(before, after)


def ends_alike(a: ir.Value, b: ir.Value) -> bool:
    """Whether the last two dimensions are the same."""
    return a.shape is not None and b.shape is not None and same_shape(list(a.shape)[-2:], list(b.shape)[-2:])


def is_product(node: ir.Node | None) -> bool:
    """Whether the node multiplies two matrices; the kernel that scales and transposes on the way counts."""
    if is_op(node, "FusedMatMul", domain="com.microsoft"):
        return not any(attribute(node, name, 0) for name in ("transA", "transBatchA", "transBatchB"))  # type: ignore[arg-type]
    return is_op(node, "MatMul")


def _product(m: Match, node: ir.Node, core: Core) -> Core:
    m.take(node)
    if node.op_type == "FusedMatMul":
        core.scale *= float(attribute(node, "alpha", 1.0))  # type: ignore[arg-type]
        core.turned = bool(attribute(node, "transB", 0))
    core.q, q_factor = unscaled(core.q)
    core.kt, k_factor = unscaled(core.kt)
    core.scale *= q_factor * k_factor
    return core


def unscaled(value: ir.Value) -> tuple[ir.Value, float]:
    """``value`` without the constant factors on top of it, and their product."""
    factor = 1.0
    while (node := producer(value, "Mul", "Div")) is not None and (found := unscaled_once(node)) is not None:
        value, factor = found[0], factor * found[1]
    return value, factor


def unscaled_once(node: ir.Node) -> tuple[ir.Value, float] | None:
    """What a Mul or Div scales, and by which number; None when neither operand is a number, or the result is larger than the operand."""
    left, right = (scalar(item) for item in node.inputs)
    inner, factor = None, 1.0
    if right is not None and (node.op_type == "Mul" or right != 0):
        inner, factor = node.inputs[0], float(right) if node.op_type == "Mul" else 1.0 / float(right)
    elif left is not None and node.op_type == "Mul":
        inner, factor = node.inputs[1], float(left)
    if inner is None or _rank(inner) is None or _rank(inner) != _rank(node.outputs[0]):
        return None
    return inner, factor


def keys(op: Build, core: Core) -> tuple[ir.Value, float]:
    """K with its last two dimensions the right way round, and the constant factor that was found inside its transposes."""
    kt, rank = core.kt, _rank(core.kt) or 0
    perm, factor = list(range(rank)), 1.0
    if not core.turned:
        perm[-2:] = perm[-1:-3:-1]
    for _ in range(4):
        kt, scale = unscaled(kt)
        factor *= scale
        node = producer(kt, "Transpose")
        if node is None or node.inputs[0] is None:
            break
        before = attribute(node, "perm", list(range(rank))[::-1])
        perm = [int(before[axis]) for axis in perm]  # type: ignore[index]
        kt = node.inputs[0]
    return (kt if perm == list(range(rank)) else op.Transpose(kt, perm=perm)), factor  # type: ignore[return-value]


@dataclass(frozen=True)
class Operands:
    """Q, K and V the right way round; ``flat`` when the product with V merges batch and heads, which they do not."""

    q: ir.Value
    k: ir.Value
    v: ir.Value
    sizes: Sizes
    flat: bool = False


def operands(op: Build, core: Core) -> Operands | Skip:
    """Q, K and V, 4-D where they are so before batch and heads are merged; puts the factors found on the way into the scale."""
    k, factor = keys(op, core)
    core.scale *= factor
    split = [_before_merge(value) for value in (core.q, k, core.v)]
    if None in split:
        size = skip("the scores are reshaped") if core.viewed else _core_sizes(core)
        return size if isinstance(size, Skip) else Operands(core.q, k, core.v, size)
    q4, k4, v4 = split
    size = _sizes(*(list(value.shape) for value in (q4, k4, v4)))  # type: ignore[union-attr, arg-type]
    if isinstance(size, Skip):
        return size
    masks = [*(term.value for term in core.terms), *(item.condition for item in core.hidden)]
    if not all(broadcasts_into(mask.shape, size.scores) for mask in masks):
        return skip("a mask does not fit the scores of shape %s", size.scores)
    return Operands(q4, k4, v4, size, True)  # type: ignore[arg-type]


def _before_merge(value: ir.Value) -> ir.Value | None:
    """[batch, heads, tokens, size] behind [batch * heads, tokens, size]."""
    node = producer(value, "Reshape")
    source = node.inputs[0] if node is not None else None
    merged = source is not None and _rank(source) == 4 and _rank(value) == 3 and ends_alike(source, value)
    return source if merged else None


def _core_sizes(core: Core) -> Sizes | Skip:
    """The dimensions of the attention of 4-D Q, K and V; 3-D ones have one head."""
    q, kt, v = core.q.shape, core.kt.shape, core.v.shape
    if q is None or kt is None or v is None:
        return skip("the shapes are not known")
    return _sizes(list(q), list(kt) if core.turned else [*list(kt)[:-2], kt[-1], kt[-2]], list(v))


def _sizes(q: list[Dim], k: list[Dim], v: list[Dim]) -> Sizes | Skip:
    if {len(q), len(k), len(v)} not in ({3}, {4}):
        return skip("Q, K and V have the shapes %s, %s and %s", q, k, v)
    one: list[Dim] = [1] if len(q) == 3 else []
    (batch, heads, queries, size), (k_batch, k_heads, k_keys, k_size), (v_batch, v_heads, v_keys, value_size) = (
        [shape[0], *one, *shape[1:]] for shape in (q, k, v)
    )
    agree = [(batch, k_batch), (batch, v_batch), (size, k_size), (k_keys, v_keys), (k_heads, v_heads)]
    if not all(same(a, b) for a, b in agree):
        return skip("Q, K and V have the shapes %s, %s and %s", q, k, v)
    if not (same(heads, k_heads) or k_heads == 1):
        return skip("there are %s heads of Q and %s of K", heads, k_heads)
    return Sizes(batch, heads, k_heads, queries, k_keys, size, value_size)


def size_of(op: Build, value: ir.Value, axis: int) -> ir.Value:
    """One dimension as a vector, read as far up as it is there, so that nothing has to be moved only to be measured."""
    dim = value.shape[axis] if value.shape is not None else None
    if isinstance(dim, int):
        return op.const([dim])
    for _ in range(MAX_STEPS):
        node = producer(value, "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Mul", "Div", "Cast", "RotaryEmbedding", "Identity", "Split")
        source = node.inputs[0] if node is not None else None
        places = [] if source is None or source.shape is None or dim is None else [at for at, other in enumerate(source.shape) if same(other, dim)]
        if source is None or not places:
            break
        value, axis = source, places[0]
    return op.Shape(value, start=axis, end=axis + 1)  # type: ignore[return-value]


def forget_unused(op: Build, made: ir.Value, *others: ir.Value | None) -> ir.Value:
    """``made``, and the pen without the nodes that were tried on the way and are not part of it, or of the ``others``."""
    wanted = {made, *others}
    for node in reversed(op.nodes[:]):
        if wanted.isdisjoint(node.outputs) and not any(value.uses() for value in node.outputs):
            for index in range(len(node.inputs)):
                node.replace_input_with(index, None)
            op.nodes.remove(node)
    return made


def _rank(value: ir.Value) -> int | None:
    return None if value.shape is None else len(value.shape)
