"""Which weights may be laid out anew ahead of time: those that one product reads, each element where its loops say.

TVM offers every constant argument of a kernel for it, the tables that a kernel looks other things up in too; laying those out anew breaks the kernel.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .whole import FREE, every, inlined, tiled

if TYPE_CHECKING:
    import tvm
    from tvm.s_tir import Schedule


def restrict_layouts(module: tvm.IRModule) -> tvm.IRModule:
    """The module with only those weights marked as free to be laid out that its kernels read in products."""
    import tvm
    from tvm.tirx import PrimFunc

    functions = dict(module.functions)
    for name, function in module.functions_items():
        if isinstance(function, PrimFunc) and function.attrs is not None and FREE in function.attrs:
            functions[name] = _restricted(function)
    return tvm.IRModule(functions, attrs=module.attrs)


def _restricted(function: tvm.tirx.PrimFunc) -> tvm.tirx.PrimFunc:
    import tvm
    from tvm import s_tir

    sch = s_tir.Schedule(tvm.IRModule({"main": function.with_attr("global_symbol", "main")}), error_render_level="none")
    names = _read_by_products(sch) if inlined(sch, "main") else frozenset()
    places = [int(place) for place in function.attrs[FREE] if str(function.params[int(place)].name) in names]
    return function.with_attr(FREE, places) if places else function.without_attr(FREE)


def _read_by_products(sch: Schedule) -> frozenset[str]:
    """Buffers that are read once in the kernel, by a tiled reduction whose vectors run along them."""
    reads = Counter(name for _, shape in every(sch, "main") for name in shape.buffers)
    found: set[str] = set()
    for _, shape, plan in tiled(sch, "main"):
        for name, indices in zip(shape.buffers, shape.reads, strict=True):
            plain = all(len(index) <= 1 for index in indices)
            if reads[name] == 1 and len(indices) > 1 and plain and any(plan.column in index for index in indices):
                found.add(name)
    return frozenset(found)
