"""The weights of a Relax module, taken out of it: they lie in a file that is mapped into memory once, not in the library."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tvm

SMALLEST_LIFTED = 1024
"""Bytes. Smaller constants stay in the code: a parameter costs more at each call."""
PLAIN = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
"""Element types that numpy has; the others stay where they are."""


def lift_weights(module: tvm.IRModule) -> tuple[tvm.IRModule, list[tvm.runtime.Tensor]]:
    """The module with the larger constants of ``main`` as parameters after its inputs, and the tensors to call it with, in that order.

    A constant used twice is one parameter. To be done last: a pass before it would have each call check what never changes.
    """
    import tvm
    from tvm import relax

    lifter = _lifter()
    main = module["main"]
    body = lifter.visit_expr(main.body)
    if not lifter.parameters:
        return module, []
    parameters = [*main.params, *lifter.parameters.values()]
    changed = tvm.IRModule(dict(module.functions), attrs=module.attrs, global_infos=module.global_infos)
    changed[module.get_global_var("main")] = relax.Function(parameters, body, main.ret_ty, main.is_pure, main.attrs, main.span)
    return changed, lifter.tensors


def _lifter() -> Any:
    """Made here: its class needs TVM."""
    from tvm import relax

    @relax.expr_functor.mutator
    class Lifter(relax.PyExprMutator):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.parameters: dict[tuple[str, str, bytes], Any] = {}
            self.tensors: list[Any] = []

        def visit_generic_const_(self, op: Any) -> Any:
            if not is_lifted(op):
                return op
            key = content_of(op)
            if key not in self.parameters:
                self.tensors.append(op.value)
                self.parameters[key] = relax.Var(f"weight_{len(self.tensors) - 1}", op.ty)
            return self.parameters[key]

    return Lifter()


def is_lifted(constant: Any) -> bool:
    """Whether a constant of a Relax function is a tensor worth taking out."""
    value = constant.value
    if not hasattr(value, "data_ptr"):
        return False
    dtype = str(value.dtype)
    return dtype in PLAIN and math.prod(value.shape) * np.dtype(dtype).itemsize >= SMALLEST_LIFTED


def content_of(constant: Any) -> tuple[str, str, bytes]:
    """What two constants have in common that are the same tensor: schedules lay a weight out once for each kernel that reads it."""
    value = constant.value
    return str(value.dtype), str(tuple(value.shape)), hashlib.blake2b(value.numpy().tobytes()).digest()
