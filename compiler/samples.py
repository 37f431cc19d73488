"""Inputs that a model accepts, made from its graph: ordinary ones, extreme shapes, and numbers that break careless rewrites."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from .core.backend import Array, Sample
from .core.dims import evaluate, free_symbols
from .core.errors import InputError, ModelError
from .core.graph import all_graphs, clone_model
from .core.shapes import infer_shapes
from .filling import SPECIALS, VARIANTS, Variant, fill, spoil
from .roles import Role, makes_sizes, roles
from .tolerance import is_float

__all__ = ["Run", "generate"]

Run = Callable[[Sample], object]
"""Runs the reference on a sample; raises when it does not accept it."""
Sizes = Mapping[str, int]

MAX_GIVEN = 16
MAX_OVERRIDDEN_BYTES = 64 << 20
LADDER = (3, 2, 1, 4, 7, 8, 16, 32, 64, 128, 224, 256, 320, 384, 512, 640, 1024)
IMAGE_LADDER = (64, 96, 32, 128, 160, 192, 224, 256, 320, 416, 512, 640, 16, 8, 3, 1)
MAX_BRANCHES = 6
MAX_ELEMENTS = 1 << 28
SEARCH_SECONDS = 20.0
RANKS = (2, 1, 3, 4, 0)
_ABORTS_WHEN_EMPTY = ("LSTM", "GRU", "RNN", "Unique", "DynamicQuantizeLSTM", "Einsum", "InstanceNormalization")
"""ONNX Runtime 1.32 ends the whole process when some of these get a tensor with a dimension of 0."""


def generate(
    model: ir.Model, given: Sequence[Sample] = (), seed: int = 0, run: Run | None = None, *, limit: int = 20, seconds: float = 3.0
) -> tuple[Sample, ...]:
    """The user's samples, then up to ``limit`` made ones that ``run`` accepts, the most telling first.

    ``seconds`` bounds the time that running all of the made ones once takes: a model of 1 s a run gets 3 of them; at least 2 are made.
    Without ``run`` nothing is tried out. Raises InputError when a given sample is refused, or when no input can be made that the model accepts.
    """
    maker = _Maker(model, seed, given)
    attempt = _Attempt(run or (lambda _: None))
    for index, sample in enumerate(given[:MAX_GIVEN]):
        if not attempt(sample):
            raise InputError(f"the model refuses example input {index}: {attempt.reason}")
    base = dict(given[0]) if given else _base(maker, attempt)
    if base is None:
        raise InputError(f"no inputs could be made that this model accepts; pass example inputs for {maker.describe()}. The runtime says: {attempt.reason}")
    room = max(2, min(limit, int(seconds / max(attempt.seconds, 1e-6))))
    made = [*([] if given else [base]), *(sample for sample in _branches(maker, attempt) if sample is not None)]
    for further in itertools.islice(_more(maker, base, made[1:], bool(given)), 4 * limit):
        if len(made) >= room:
            break
        if further is not None and not _known(further, [*given, *made]) and attempt(further):
            made.append(further)
    return (*given[:MAX_GIVEN], *made)


class _Attempt:
    """Runs samples; remembers why the last refused one was, how long the last accepted one took, and whether it came to nothing."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.reason = ""
        self.seconds = 0.0
        self.vacuous = False

    def __call__(self, sample: Sample | None) -> bool:
        if sample is None:
            self.reason = self.reason or f"the inputs would have more than {MAX_ELEMENTS:,} elements, or a dimension below 0"
            return False
        start = time.perf_counter()
        try:
            outputs = self._run(sample)
        except Exception as error:
            self.reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            return False
        self.seconds = time.perf_counter() - start
        arrays = [item for item in outputs.values() if isinstance(item, np.ndarray)] if isinstance(outputs, dict) else []
        self.vacuous = bool(arrays) and all(array.size == 0 for array in arrays)
        return True


@dataclass(frozen=True)
class _Plan:
    """The sizes of one sample's symbols, the rank of inputs that declare none, and how to fill them."""

    sizes: Sizes
    variant: Variant = VARIANTS[0]
    rank: int = 2
    absent: bool = False


class _Maker:
    """Knows a model's inputs: their dims, their roles, and what the user fed to them."""

    def __init__(self, model: ir.Model, seed: int, given: Sequence[Sample]) -> None:
        self.seed = seed
        self.inputs = [value for value in model.graph.inputs if not value.is_initializer()]
        self.overridable = [value for value in model.graph.inputs if value.is_initializer() and value.const_value is not None]
        self.roles = _roles_in_full(model)
        self.hazards = {value.name or "" for value in self.inputs if makes_sizes(value)}
        self.like: Sample = dict(given[0]) if given else {}
        self.dims = {value.name or "": self._declared(value) for value in self.inputs}
        declared = [dims for dims in self.dims.values() if dims is not None]
        self.symbols = list(dict.fromkeys(name for dims in declared for dim in dims for name in sorted(free_symbols(dim))))
        self.leading = self._leading(declared)
        self.empty = not any(node.op_type in _ABORTS_WHEN_EMPTY for graph in all_graphs(model) for node in graph)
        self.images = any(_is_image(dims) for dims in declared)
        self.plan = _Plan(self.sizes_of(self.like))

    def _declared(self, value: ir.Value) -> tuple[int | ir.SymbolicDim, ...] | None:
        if value.shape is None:
            return None
        return tuple(self._named(value, axis, dim) for axis, dim in enumerate(value.shape))

    @staticmethod
    def _named(value: ir.Value, axis: int, dim: int | ir.SymbolicDim) -> int | ir.SymbolicDim:
        """A dimension without a name, or with one that cannot be read, gets one of its own."""
        if isinstance(dim, int):
            return dim
        try:
            return dim if dim.value is not None and free_symbols(dim) else ir.SymbolicDim(f"{value.name}_{axis}")
        except Exception:
            return ir.SymbolicDim(f"{value.name}_{axis}")

    @staticmethod
    def _leading(declared: Iterable[tuple[int | ir.SymbolicDim, ...]]) -> list[str]:
        """The symbols that look like a batch: first of several dimensions."""
        first = [dims[0] for dims in declared if len(dims) > 1 and isinstance(dims[0], ir.SymbolicDim)]
        return list(dict.fromkeys(dim.value or "" for dim in first))

    def sample(self, plan: _Plan) -> Sample | None:
        """Fill every input; the same plan gives the same sample. None when that would take too much memory, or a size would be negative."""
        rng = np.random.default_rng([self.seed, plan.variant.number, sum(plan.sizes.values())])
        shapes = {value.name or "": self._shape(value, plan) for value in self.inputs}
        if any(size < 0 for shape in shapes.values() for size in shape) or sum(math.prod(shape) for shape in shapes.values()) > MAX_ELEMENTS:
            return None
        data = next((shapes[value.name or ""] for value in self.inputs if value.dtype is not None and value.dtype.is_floating_point()), ())
        return {value.name or "": self._fill(value, shapes[value.name or ""], plan, rng, data) for value in self.inputs}

    def _shape(self, value: ir.Value, plan: _Plan) -> tuple[int, ...]:
        dims = self.dims[value.name or ""]
        if dims is not None:
            return tuple((evaluate(dim, plan.sizes) or 0) if not isinstance(dim, int) else dim for dim in dims)
        like = self.like.get(value.name or "")
        return like.shape if isinstance(like, np.ndarray) else (3,) * plan.rank

    def _fill(self, value: ir.Value, shape: tuple[int, ...], plan: _Plan, rng: np.random.Generator, data: tuple[int, ...]) -> Array:
        name = value.name or ""
        if plan.absent and isinstance(value.type, ir.OptionalType):
            return None
        bound = self._bound(min((size for size in plan.sizes.values() if size > 0), default=1))
        return fill(value, shape, self.roles.get(name, Role()), plan.variant, rng, bound, self.like.get(name), data)

    def _bound(self, smallest: int) -> int:
        static = [dim for dims in self.dims.values() if dims for dim in dims[:2] if isinstance(dim, int) and dim > 0]
        return max(1, min([smallest, *static])) if self.symbols else max(1, min(static, default=1))

    def describe(self) -> str:
        """The inputs with dtype and shape, for a message."""
        return ", ".join(f"'{value.name}' ({value.dtype.name.lower() if value.dtype else 'unknown'} {value.shape})" for value in self.inputs)

    def forks(self, value: ir.Value) -> int:
        """How many ways but the first a scalar input can send a model: numbers it is compared with, true and false."""
        name = value.name or ""
        if self.dims[name] not in ((), (1,)):
            return 0
        return 1 if value.dtype is ir.DataType.BOOL else len(self.roles[name].choices)

    def sizes_of(self, sample: Sample) -> Sizes:
        """What the symbols are in a sample."""
        found: dict[str, int] = {}
        for name, dims in self.dims.items():
            array = sample.get(name)
            if dims is None or not isinstance(array, np.ndarray) or array.ndim != len(dims):
                continue
            for dim, size in zip(dims, array.shape, strict=True):
                if isinstance(dim, ir.SymbolicDim) and dim.value in self.symbols:
                    found.setdefault(dim.value or "", size)
        return {name: found.get(name, 1) for name in self.symbols}


def _is_image(dims: tuple[int | ir.SymbolicDim, ...]) -> bool:
    """Four dimensions, one of them 1, 3 or 4 channels, and a side that is not fixed."""
    if len(dims) != 4:
        return False
    return any(dims[channels] in (1, 3, 4) and not isinstance(dims[side], int) for channels, side in ((1, 2), (3, 1)))


def _known(sample: Sample, others: Iterable[Sample]) -> bool:
    return any(all(_equal(sample.get(name), other.get(name)) for name in {*sample, *other}) for other in others)


def _equal(one: Array, other: Array) -> bool:
    if isinstance(one, list) or isinstance(other, list) or one is None or other is None:
        return one is other
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def _base(maker: _Maker, attempt: _Attempt) -> Sample | None:
    """The first sample that the model accepts, trying sizes from small to large."""
    for variants in (VARIANTS[:1], VARIANTS[1:]):
        plan = _search(maker, attempt, variants)
        if plan is not None:
            maker.plan = _shrunk(maker, attempt, plan)
            return maker.sample(maker.plan)
    return None


def _branches(maker: _Maker, attempt: _Attempt) -> list[Sample | None]:
    """A sample for each further number that a scalar is compared with, for none of them, and for false: each may lead into a branch of its own."""
    found: list[Sample | None] = []
    for number in range(1, min(max(map(maker.forks, maker.inputs), default=0), MAX_BRANCHES) + 1):
        variant = replace(VARIANTS[0], number=number)
        usual = replace(maker.plan, variant=variant)
        plan = usual if attempt(maker.sample(usual)) else _search(maker, attempt, (variant,))
        if plan is not None:
            found.append(maker.sample(plan if plan is usual else _shrunk(maker, attempt, plan)))
    return found


def _search(maker: _Maker, attempt: _Attempt, variants: Sequence[Variant]) -> _Plan | None:
    deadline = time.monotonic() + SEARCH_SECONDS
    for plan in _plans(maker, variants):
        if attempt(maker.sample(plan)) and not (attempt.vacuous and maker.symbols):
            return plan
        if time.monotonic() > deadline:
            break
    return None


def _shrunk(maker: _Maker, attempt: _Attempt, plan: _Plan) -> _Plan:
    """As many symbols as possible down to 2, together where they depend on each other, as a batch does that is declared twice without a name."""
    if maker.images or not 1 < len(maker.symbols) <= 4 or max(plan.sizes.values()) <= 8:
        return plan
    for count in range(len(maker.symbols) - 1, 0, -1):
        for names in itertools.combinations(maker.symbols, count):
            smaller = replace(plan, sizes={**plan.sizes, **dict.fromkeys(names, 2)})
            if attempt(maker.sample(smaller)):
                maker.leading = list(names)
                return smaller
    return plan


def _plans(maker: _Maker, variants: Sequence[Variant]) -> Iterator[_Plan]:
    """Sizes to try: a batch of 2 with one size for the rest, all equal, one large, one doubled (a cache and its mask); at last one of them 0."""
    ranks = RANKS if any(dims is None for dims in maker.dims.values()) else (2,)
    ladder = (IMAGE_LADDER if maker.images else LADDER) if maker.symbols else (1,)
    assignments = [sizes for size in ladder for sizes in _assignments(maker, size)]
    emptied = [{**sizes, name: 0} for sizes in assignments[:2] for name in maker.symbols if maker.empty and name not in maker.leading]
    for sizes, rank, variant in itertools.product((*assignments, *emptied), ranks, variants):
        yield _Plan(sizes, variant, rank)


def _assignments(maker: _Maker, size: int) -> list[Sizes]:
    equal = dict.fromkeys(maker.symbols, size)
    found: list[Sizes] = [equal | dict.fromkeys(maker.leading, 2), equal, equal | dict.fromkeys(maker.leading, 1)]
    if 1 < len(maker.symbols) <= 6:
        for name in maker.symbols:
            found.append(dict.fromkeys(maker.symbols, 2) | {name: size})
            found.append(equal | dict.fromkeys(maker.leading, 2) | {name: 2 * size})
    unique: list[Sizes] = []
    for sizes in found:
        if sizes not in unique:
            unique.append(sizes)
    return unique


def _more(maker: _Maker, base: Sample, branches: Sequence[Sample], given: bool) -> Iterator[Sample | None]:
    """Further samples, the most telling first."""
    rng = np.random.default_rng([maker.seed, 7])
    plan = maker.plan
    if given:
        yield maker.sample(plan)
    for sample in (base, *branches):
        yield from _spoiled(maker, sample, SPECIALS[:1], rng)
    if any(isinstance(value.type, ir.OptionalType) for value in maker.inputs):
        yield maker.sample(replace(plan, absent=True))
    yield from _overridden(maker, base, rng)
    yield maker.sample(replace(plan, sizes=_distinct(plan.sizes), variant=VARIANTS[1]))
    if maker.leading:
        yield maker.sample(replace(plan, sizes={**plan.sizes, **dict.fromkeys(maker.leading, 1)}))
    if maker.symbols:
        yield maker.sample(replace(plan, sizes=dict.fromkeys(maker.symbols, 1), variant=VARIANTS[1]))
    if maker.symbols and max(plan.sizes.values()) < 8:
        yield maker.sample(replace(plan, sizes={name: size if name in maker.leading else 4 * size + 5 for name, size in plan.sizes.items()}))
    yield maker.sample(replace(plan, variant=VARIANTS[1]))
    yield from _spoiled(maker, base, SPECIALS[1:4], rng)
    for variant in VARIANTS[2:]:
        yield maker.sample(replace(plan, variant=variant))
    for size, name in itertools.product((1, 0) if maker.empty else (1,), maker.symbols[:6]):
        yield maker.sample(replace(plan, sizes={**plan.sizes, name: size}))
    yield from _spoiled(maker, base, SPECIALS[4:], rng)
    yield from _wild_integers(maker, base, rng)


def _distinct(sizes: Sizes) -> Sizes:
    """Every symbol a size of its own, so that mixing two of them up shows."""
    return {name: size + place + 1 for place, (name, size) in enumerate(sizes.items())}


def _roles_in_full(model: ir.Model) -> dict[str, Role]:
    """The roles of the inputs, with shapes inferred on a copy when some index a table whose size the model does not say."""
    found = roles(model)
    if not any(role.shared for role in found.values()):
        return found
    copy = clone_model(model)
    with contextlib.suppress(ModelError):  # Roles that need inner shapes stay unknown then.
        infer_shapes(copy)
    return roles(copy)


def _spoiled(maker: _Maker, base: Sample, kinds: Sequence[str], rng: np.random.Generator) -> Iterator[Sample]:
    """The base sample with special numbers in the floats that are no masks or sizes."""
    free = [name for name, array in base.items() if _is_free_float(maker, name, array)]
    for kind in kinds if free else ():
        yield {name: spoil(array, kind, rng) if name in free else array for name, array in base.items()}  # type: ignore[arg-type]


def _is_free_float(maker: _Maker, name: str, array: Array) -> bool:
    role = maker.roles.get(name, Role())
    return isinstance(array, np.ndarray) and is_float(array.dtype) and not role.mask and not role.size and name not in maker.hazards


def _wild_integers(maker: _Maker, base: Sample, rng: np.random.Generator) -> Iterator[Sample]:
    """Indices counted from the end, and the largest and smallest integers where nothing depends on their size."""
    tables = {name: role.rows for name, role in maker.roles.items() if role.rows and isinstance(base.get(name), np.ndarray) and base[name].dtype.kind == "i"}  # type: ignore[union-attr]
    if tables:
        yield {**base, **{name: np.asarray(base[name]) - rows for name, rows in tables.items()}}
    wild = [name for name, array in base.items() if isinstance(array, np.ndarray) and array.dtype.kind in "iu" and _is_free_int(maker, name)]
    if wild:
        yield {name: spoil(array, "extreme", rng) if name in wild else array for name, array in base.items()}  # type: ignore[arg-type]


def _is_free_int(maker: _Maker, name: str) -> bool:
    role = maker.roles.get(name, Role())
    return role == Role() and name not in maker.hazards


def _overridden(maker: _Maker, base: Sample, rng: np.random.Generator) -> Iterator[Sample]:
    """Other weights for the initialisers that a caller may override."""
    changed: dict[str, np.ndarray] = {}
    for value in maker.overridable:
        tensor = value.const_value
        if tensor is not None and tensor.dtype.is_floating_point() and tensor.nbytes < MAX_OVERRIDDEN_BYTES:
            array = tensor.numpy()
            changed[value.name or ""] = (array.astype(np.float64) * rng.uniform(0.5, 1.5, array.shape)).astype(array.dtype)
    if changed:
        yield {**base, **changed}
