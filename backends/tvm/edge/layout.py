"""What a lowered Relax function does, as tables: tensors at fixed places of one arena, and kernels called one after the other.

Every size is known and control flow is gone, so a device needs no virtual machine: it walks the calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ....compiler.core.errors import TargetError
from ..weights import content_of

if TYPE_CHECKING:
    import tvm

ALIGNMENT = 64
"""Bytes. TVM's kernels load whole vectors from where a tensor starts."""
SKIPPED = ("relax.memory.kill_storage", "relax.memory.kill_tensor", "relax.vm.kill_object")


@dataclass(frozen=True)
class Tensor:
    """A tensor at ``offset`` bytes of the arena, or of the weights."""

    is_weight: bool
    offset: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Its size, without what lies between it and the next."""
        return nbytes(self.shape, self.dtype)


@dataclass(frozen=True)
class Call:
    """A kernel, and what it is called with: tensors by number ("tensor"), or plain numbers ("int", "float")."""

    kernel: str
    arguments: tuple[tuple[str, int | float], ...]


@dataclass
class Layout:
    """A whole model; ``inputs`` and ``outputs`` are numbers of tensors, ``weights`` lie in this order, each aligned."""

    tensors: list[Tensor] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    weights: list[tvm.runtime.Tensor] = field(default_factory=list)
    arena_bytes: int = 0
    weight_bytes: int = 0


@dataclass(frozen=True)
class _Storage:
    offset: int


def aligned(size: int) -> int:
    """``size`` bytes, rounded up to where the next tensor may start."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def nbytes(shape: Sequence[int], dtype: str) -> int:
    """Bytes of a dense tensor."""
    import tvm_ffi

    kind = tvm_ffi.dtype(dtype)
    return (int(np.prod(shape, dtype=np.int64)) * kind.bits * kind.lanes + 7) // 8


def lower(module: tvm.IRModule) -> tvm.IRModule:
    """A module whose ``main`` calls PrimFuncs (as `LegalizeOps` leaves it), with its memory planned."""
    import tvm
    from tvm import relax

    steps = [
        relax.transform.RewriteDataflowReshape(),
        relax.transform.ToNonDataflow(),
        relax.transform.RemovePurityChecking(),
        relax.transform.CallTIRRewrite(),
        relax.transform.StaticPlanBlockMemory(),
        relax.transform.AttachGlobalSymbol(),
    ]
    return tvm.transform.Sequential(steps)(module)


def lay_out(module: tvm.IRModule) -> Layout:
    """The tables of a module's ``main`` after `lower`.

    Raises TargetError when a size is open, or something is left that is neither memory nor a call of a kernel.
    """
    walk = _Walk(Layout())
    main = module["main"]
    for parameter in main.params:
        walk.values[parameter] = walk.new(_shape_of(parameter.ty), str(parameter.ty.dtype))
        walk.layout.inputs.append(walk.values[parameter])
    for block in main.body.blocks:
        for binding in block.bindings:
            walk.values[binding.var] = walk.value(binding.value)
    walk.layout.outputs.extend(walk.numbers(main.body.body))
    return walk.layout


@dataclass
class _Walk:
    layout: Layout
    values: dict[Any, Any] = field(default_factory=dict)
    """A Relax variable -> the number of its tensor, a storage, a tuple of these, or None."""
    held: dict[tuple[str, str, bytes], int] = field(default_factory=dict)
    """A weight's content -> the number of its tensor."""

    def new(self, shape: tuple[int, ...], dtype: str) -> int:
        """A tensor with memory of its own."""
        return self.place(shape, dtype, self.reserve(nbytes(shape, dtype)))

    def reserve(self, size: int) -> int:
        offset = self.layout.arena_bytes
        self.layout.arena_bytes += max(aligned(size), ALIGNMENT)
        return offset

    def place(self, shape: tuple[int, ...], dtype: str, offset: int, *, is_weight: bool = False) -> int:
        self.layout.tensors.append(Tensor(is_weight, offset, shape, dtype))
        return len(self.layout.tensors) - 1

    def value(self, expression: Any) -> Any:
        """What an expression stands for; calls of kernels are written down."""
        from tvm import ir, relax

        if isinstance(expression, relax.Var):
            return self.values[expression]
        if isinstance(expression, ir.GenericConst):
            return self.weight(expression)
        if isinstance(expression, relax.Tuple):
            return tuple(self.value(item) for item in expression.fields)
        if isinstance(expression, relax.TupleGetItem):
            return self.value(expression.tuple_value)[expression.index]
        if isinstance(expression, relax.Call):
            return self.call(expression)
        raise TargetError(f"a device without a runtime cannot run {type(expression).__name__} (control flow, or a size that is computed)")

    def numbers(self, expression: Any) -> list[int]:
        """The tensors of an output, which is one or a tuple of them."""
        value = self.value(expression)
        found = list(value) if isinstance(value, tuple) else [value]
        if not all(isinstance(item, int) for item in found):
            raise TargetError("a device without a runtime cannot give outputs that are sequences")
        return found

    def weight(self, constant: Any) -> int:
        key = content_of(constant)
        if key not in self.held:
            self.held[key] = self.place(_shape_of(constant.ty), str(constant.ty.dtype), self.layout.weight_bytes, is_weight=True)
            self.layout.weights.append(constant.value)
            self.layout.weight_bytes += aligned(self.layout.tensors[-1].nbytes)
        return self.held[key]

    def call(self, call: Any) -> Any:
        import tvm
        from tvm import relax

        if isinstance(call.op, relax.GlobalVar):
            self.layout.calls.append(Call(call.op.name_hint, tuple(self.argument(item) for item in call.args)))
            return None
        name = call.op.name if isinstance(call.op, tvm.ir.Op) else str(getattr(call.op, "global_symbol", call.op))
        if name == "relax.memory.alloc_storage":
            return _Storage(self.reserve(int(np.prod(_sizes(call.args[0]), dtype=np.int64))))
        if name == "relax.memory.alloc_tensor":
            storage, offset, shape, dtype = call.args[:4]
            return self.place(_sizes(shape), str(dtype.value), self.value(storage).offset + int(offset.value))
        if name == "relax.builtin.alloc_tensor":
            return self.new(_sizes(call.args[0]), str(call.args[1].value))
        if name == "relax.reshape":
            tensor = self.layout.tensors[self.value(call.args[0])]
            return self.place(_shape_of(call.ty), tensor.dtype, tensor.offset, is_weight=tensor.is_weight)
        if name in SKIPPED:
            return None
        raise TargetError(f"a device without a runtime cannot run {name.removeprefix('relax.')}, which no kernel was made for")

    def argument(self, expression: Any) -> tuple[str, int | float]:
        from tvm import ir

        if isinstance(expression, ir.prim.IntImm):
            return "int", int(expression.value)
        if isinstance(expression, ir.prim.FloatImm):
            return "float", float(expression.value)
        found = self.value(expression)
        if not isinstance(found, int):
            raise TargetError("a device without a runtime cannot hand a kernel anything but tensors and numbers")
        return "tensor", found


def _sizes(expression: Any) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in expression.values)
    except (TypeError, ValueError):
        raise TargetError(f"a device without a runtime needs every size to be known, and {list(expression.values)} is not") from None


def _shape_of(info: Any) -> tuple[int, ...]:
    if info.shape is None:
        raise TargetError("a device without a runtime needs every size to be known")
    return _sizes(info.shape)
