"""Steps of a random model that move data, compute on shapes, or branch."""

from __future__ import annotations

import numpy as np
import onnx

from .draft import BOOL, FLOAT, FLOATS, INT64, Draft, Value

END = 2**63 - 1


def transpose(draft: Draft) -> object:
    value = draft.pick(lambda value: value.rank >= 2)
    if value is None:
        return None
    perm = list(range(value.rank))
    draft.draw.shuffle(perm)
    if value.rank == 4 and draft.draw.random() < 0.5:
        perm = draft.draw.choice(([0, 2, 3, 1], [0, 3, 1, 2], [0, 2, 1, 3], [0, 1, 3, 2]))
    return draft.add("Transpose", [value], value.dtype, [value.shape[axis] for axis in perm], perm=perm)


def reshape(draft: Draft) -> object:
    """Neighbouring dimensions merged, one split, or ones put in; written with 0 and -1 at times."""
    value = draft.pick(lambda value: value.rank >= 1 and all(dim != 0 for dim in value.shape))
    if value is None:
        return None
    if value.static:
        shape = _regrouped(draft, [int(dim) for dim in value.shape])
        given = [0 if place < value.rank and shape[place] == value.shape[place] and draft.draw.random() < 0.3 else dim for place, dim in enumerate(shape)]
        if shape and draft.draw.random() < 0.4:
            given[draft.draw.randrange(len(given))] = -1
        return draft.add("Reshape", [value, draft.integers(*given)], value.dtype, shape)
    symbols = [place for place, dim in enumerate(value.shape) if isinstance(dim, str)]
    if symbols == [0]:
        rest = _regrouped(draft, [int(dim) for dim in value.shape[1:]])
        return draft.add("Reshape", [value, draft.integers(draft.draw.choice((0, -1)), *rest)], value.dtype, (value.shape[0], *rest))
    shape_of = draft.add("Shape", [value], INT64, (value.rank,))
    return draft.add("Reshape", [draft.add("Identity", [value], value.dtype, value.shape), shape_of], value.dtype, value.shape)


def _regrouped(draft: Draft, dims: list[int]) -> list[int]:
    dims = list(dims)
    for _ in range(draft.draw.randint(1, 2)):
        place = draft.draw.randrange(len(dims)) if dims else 0
        action = draft.draw.random()
        if action < 0.4 and len(dims) > 1:
            place = min(place, len(dims) - 2)
            dims[place : place + 2] = [dims[place] * dims[place + 1]]
        elif action < 0.7 and dims:
            factors = [factor for factor in (2, 3, 4) if dims[place] % factor == 0]
            factor = draft.draw.choice(factors or [1])
            dims[place : place + 1] = [factor, dims[place] // factor]
        elif len(dims) < 5:
            dims.insert(place, 1)
    return dims


def squeeze(draft: Draft) -> object:
    value = draft.pick(lambda value: 1 in value.shape)
    if value is None or draft.draw.random() < 0.4:
        value = draft.pick(lambda value: value.rank < 5)
        if value is None:
            return None
        axis = draft.draw.randint(0, value.rank)
        return draft.add("Unsqueeze", [value, draft.integers(axis)], value.dtype, (*value.shape[:axis], 1, *value.shape[axis:]))
    axis = draft.draw.choice([axis for axis, dim in enumerate(value.shape) if dim == 1])
    return draft.add("Squeeze", [value, draft.integers(axis)], value.dtype, (*value.shape[:axis], *value.shape[axis + 1 :]))


def cut(draft: Draft) -> object:
    """A Slice, at times with a step, from the end, or of everything."""
    value = draft.pick(lambda value: any(isinstance(dim, int) and dim > 0 for dim in value.shape))
    if value is None:
        return None
    axis = draft.draw.choice([axis for axis, dim in enumerate(value.shape) if isinstance(dim, int) and dim > 0])
    size = int(value.shape[axis])
    start, step = draft.draw.randrange(size), draft.draw.choice((1, 1, 1, 2, -1))
    end = draft.draw.choice((draft.draw.randint(0, size), size, END)) if step > 0 else -END
    length = len(range(size)[start : min(end, size) : step]) if step > 0 else start + 1
    shown = start - size if draft.draw.random() < 0.2 else start
    given = [draft.integers(number) for number in (shown, end, axis, step)]
    return draft.add("Slice", [value, *given], value.dtype, (*value.shape[:axis], length, *value.shape[axis + 1 :]))


def split(draft: Draft) -> object:
    value = draft.pick(lambda value: any(isinstance(dim, int) and dim > 1 for dim in value.shape))
    if value is None:
        return None
    axis = draft.draw.choice([axis for axis, dim in enumerate(value.shape) if isinstance(dim, int) and dim > 1])
    size = int(value.shape[axis])
    first = draft.draw.randint(1, size - 1)
    outputs = [(value.dtype, (*value.shape[:axis], length, *value.shape[axis + 1 :])) for length in (first, size - first)]
    made = draft.add_many("Split", [value, draft.integers(first, size - first)], outputs, axis=axis)
    if draft.draw.random() < 0.4:
        pair = made if draft.draw.random() < 0.7 else made[::-1]
        return draft.add("Concat", pair, value.dtype, value.shape, axis=axis)
    return made


def concat(draft: Draft) -> object:
    one = draft.pick(lambda value: value.rank >= 1 and value.dtype != BOOL)
    if one is None:
        return None
    axis = draft.draw.randrange(one.rank)

    def fits(value: Value) -> bool:
        same = value.dtype == one.dtype and value.rank == one.rank
        return same and all(place == axis or dim == value.shape[place] for place, dim in enumerate(one.shape)) and isinstance(value.shape[axis], int)

    others = [other for _ in range(draft.draw.randint(1, 2)) if (other := draft.pick(fits)) is not None]
    if not others or not isinstance(one.shape[axis], int):
        return None
    total = sum(int(value.shape[axis]) for value in (one, *others))
    return draft.add("Concat", [one, *others], one.dtype, (*one.shape[:axis], total, *one.shape[axis + 1 :]), axis=axis)


def gather(draft: Draft) -> object:
    value = draft.pick(lambda value: any(isinstance(dim, int) and dim > 0 for dim in value.shape))
    if value is None:
        return None
    axis = draft.draw.choice([axis for axis, dim in enumerate(value.shape) if isinstance(dim, int) and dim > 0])
    size = int(value.shape[axis])
    if draft.draw.random() < 0.3:
        index = draft.number(INT64, draft.draw.randrange(-size, size))
    else:
        index = draft.integers(*(draft.draw.randrange(-size, size) for _ in range(draft.draw.randint(1, 3))))
    return draft.add("Gather", [value, index], value.dtype, (*value.shape[:axis], *index.shape, *value.shape[axis + 1 :]), axis=axis)


def expand(draft: Draft) -> object:
    value = draft.pick(lambda value: 1 in value.shape and value.static)
    if value is None:
        return None
    shape = [draft.draw.choice((1, 2, 3)) if dim == 1 else int(dim) for dim in value.shape]
    if draft.draw.random() < 0.4:
        repeats = [new if old == 1 else 1 for old, new in zip(value.shape, shape, strict=True)]
        return draft.add("Tile", [value, draft.integers(*repeats)], value.dtype, shape)
    return draft.add("Expand", [value, draft.integers(*shape)], value.dtype, shape)


def pad(draft: Draft) -> object:
    value = draft.pick(lambda value: value.dtype == FLOAT and value.rank >= 2 and isinstance(value.shape[-1], int))
    if value is None:
        return None
    low, high = draft.draw.choice(((1, 1), (0, 2), (0, 0), (1, 0)))
    pads = [0] * (2 * value.rank)
    pads[value.rank - 1], pads[-1] = low, high
    return draft.add("Pad", [value, draft.integers(*pads)], FLOAT, (*value.shape[:-1], int(value.shape[-1]) + low + high))


def depth(draft: Draft) -> object:
    value = draft.pick(lambda value: value.dtype == FLOAT and value.rank == 4 and all(isinstance(dim, int) for dim in value.shape[1:]))
    if value is None:
        return None
    batch, channels, height, width = value.shape[0], *(int(dim) for dim in value.shape[1:])
    if channels % 4 == 0 and draft.draw.random() < 0.6:
        return draft.add("DepthToSpace", [value], FLOAT, (batch, channels // 4, 2 * height, 2 * width), blocksize=2, mode=draft.draw.choice(("DCR", "CRD")))
    if height % 2 == 0 and width % 2 == 0:
        return draft.add("SpaceToDepth", [value], FLOAT, (batch, 4 * channels, height // 2, width // 2), blocksize=2)
    return None


def triangle(draft: Draft) -> object:
    value = draft.pick(lambda value: value.dtype in (FLOAT, INT64) and value.rank >= 2)
    if value is None:
        return None
    if draft.draw.random() < 0.5 and value.dtype == FLOAT:
        return draft.add("CumSum", [value, _zero(draft)], FLOAT, value.shape, exact=False)
    return draft.add("Trilu", [value], value.dtype, value.shape, upper=draft.draw.randint(0, 1))


def _zero(draft: Draft) -> Value:
    return draft.constant(np.array(0, np.int64))


def size(draft: Draft) -> object:
    """A number read off a shape, back as a float or in a shape."""
    value = draft.pick(lambda value: value.rank >= 1)
    if value is None:
        return None
    shape = draft.add("Shape", [value], INT64, (value.rank,))
    if draft.draw.random() < 0.4:
        other = draft.pick(lambda other: other.shape == value.shape and other.name != value.name)
        return draft.add("Reshape", [other, shape], other.dtype, other.shape) if other is not None else None
    number = draft.add("Gather", [shape, draft.integers(draft.draw.randrange(value.rank))], INT64, (1,), axis=0)
    return draft.add("Cast", [number], FLOAT, (1,), to=FLOAT)


def condition(draft: Draft) -> Value | None:
    """A boolean scalar: a constant, or something read off the numbers."""
    if draft.draw.random() < 0.3:
        return draft.constant(np.array(draft.draw.random() < 0.5))
    known = draft.pick(lambda value: value.dtype == BOOL and value.shape == ())
    if known is not None:
        return known
    value = draft.pick(lambda value: value.dtype == FLOAT and value.exact)
    if value is None:
        return None
    above = draft.add("Greater", [value, draft.constant(np.array(0, np.float32))], BOOL, value.shape)
    total = draft.add("ReduceSum", [draft.add("Cast", [above], INT64, value.shape, to=INT64)], INT64, (), keepdims=0)
    return draft.add("Greater", [total, _zero(draft)], BOOL, ())


def branch(draft: Draft) -> object:
    """An If whose branches compute something of the same shape from a value outside."""
    value = draft.pick(lambda value: value.dtype in FLOATS and not value.constant)
    test = condition(draft)
    if value is None or test is None:
        return None
    bodies = {}
    for name in ("then_branch", "else_branch"):
        made, nodes = value.name, []
        for _ in range(draft.draw.randint(1, 3)):
            result = draft.fresh()
            nodes.append(onnx.helper.make_node(draft.draw.choice(("Relu", "Neg", "Abs", "Tanh", "Sigmoid", "Identity")), [made], [result]))
            made = result
        output = onnx.helper.make_tensor_value_info(made, value.dtype, [None] * value.rank)
        bodies[name] = onnx.helper.make_graph(nodes, draft.fresh(), [], [output])
    return draft.add("If", [test], value.dtype, value.shape, exact=False, **bodies)


def loop(draft: Draft) -> object:
    """A Loop of a constant number of rounds that carries one value."""
    value = draft.pick(lambda value: value.dtype == FLOAT and not value.constant)
    if value is None:
        return None
    count, start = draft.constant(np.array(draft.draw.choice((0, 1, 2, 3)), np.int64)), draft.constant(np.array(True))
    names = {name: draft.fresh() for name in ("i", "go", "x", "on", "y", "z")}
    kind = draft.draw.choice(("Tanh", "Relu", "Sin"))
    nodes = [
        onnx.helper.make_node("Identity", [names["go"]], [names["on"]]),
        onnx.helper.make_node(kind, [names["x"]], [names["z"]]),
        onnx.helper.make_node(draft.draw.choice(("Add", "Sub", "Mul")), [names["z"], value.name], [names["y"]]),
    ]
    info = onnx.helper.make_tensor_value_info
    inputs = [info(names["i"], INT64, []), info(names["go"], BOOL, []), info(names["x"], FLOAT, [None] * value.rank)]
    body = onnx.helper.make_graph(nodes, draft.fresh(), inputs, [info(names["on"], BOOL, []), info(names["y"], FLOAT, [None] * value.rank)])
    return draft.add("Loop", [count, start, value], FLOAT, value.shape, exact=False, body=body)
