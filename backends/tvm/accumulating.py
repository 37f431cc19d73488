"""Reductions to the largest or smallest number pass over NaN.

A kernel computes max(a, b) as a > b ? a : b. Written max(so far, next), as TVM does, a NaN takes the place of all that came before it and is dropped by
what comes next; written max(next, so far) it changes nothing. Both cost one instruction. What is left of NaN then does not depend on the schedule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tvm


def pass_over_nan(module: tvm.IRModule) -> tvm.IRModule:
    """The module with the operands of every running maximum and minimum in that order; to be done when kernels have their schedules."""
    import tvm
    from tvm.tirx import PrimFunc

    functions = dict(module.functions)
    for name, function in module.functions_items():
        if isinstance(function, PrimFunc):
            functions[name] = _ordered(function)
    return tvm.IRModule(functions, attrs=module.attrs, global_infos=module.global_infos)


def _ordered(function: tvm.tirx.PrimFunc) -> tvm.tirx.PrimFunc:
    import tvm_ffi
    from tvm.tirx import BufferStore

    body = tvm_ffi.structural_map(function.body, (BufferStore, _turned))
    return function if body.same_as(function.body) else function.with_body(body)


def _turned(store: Any) -> Any:
    """``x[i] = max(x[i], y)`` as ``x[i] = max(y, x[i])``, min likewise."""
    import tvm_ffi
    from tvm.ir import TensorLoad
    from tvm.tirx import BufferStore, Max, Min

    value = store.value
    if not isinstance(value, (Max, Min)) or not isinstance(value.a, TensorLoad):
        return store
    if not value.a.source.same_as(store.buffer) or not tvm_ffi.structural_equal(value.a.indices, store.indices):
        return store
    return BufferStore(store.buffer, type(value)(value.b, value.a), store.indices, store.span)
