"""QuantizeLinear with NaN as ONNX Runtime has it: the lowest number. TVM's own kernel gives the highest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Scalar = Any
"""An expression of a floating-point type."""


def legalisations() -> dict[str, Callable[[Any, Any], Any]]:
    """For ``relax.transform.LegalizeOps``: operator -> how it becomes a kernel."""
    return {"relax.quantize": _quantize}


def _quantize(builder: Any, call: Any) -> Any:
    """round(x / scale) + zero, half to even, kept within what the type holds; scale and zero are one number each, or one for each place of an axis."""
    wanted = str(call.attrs.out_dtype)
    if "int" not in wanted:
        return call.op.get_attr("FLegalize")(builder, call)
    axis = int(call.attrs.axis) % len(call.args[0].ty.shape)

    def compute(data: Any, scale: Any, zero: Any) -> Any:
        from tvm import te, tirx

        def value(*indices: Any) -> Scalar:
            step, start = _at(scale, indices, axis), _at(zero, indices, axis)
            whole = tirx.round(data(*indices) / step) + tirx.Cast(data.dtype, start)
            return tirx.Cast(wanted, within(whole, data.dtype, wanted))

        return te.compute(data.shape, value, name="quantized")

    return builder.call_te(compute, *call.args[:3], primfunc_name_hint="quantize")


def within(value: Scalar, dtype: Any, kind: str) -> Scalar:
    """The number nearest to ``value``, of type ``dtype``, that an integer type holds. With the value first, both comparisons answer NaN with the limit."""
    from tvm import tirx

    lowest, highest = (tirx.Cast(dtype, limit(kind)) for limit in (tirx.min_value, tirx.max_value))
    return tirx.min(tirx.max(value, lowest), highest)


def _at(parameter: Any, indices: Sequence[Any], axis: int) -> Scalar:
    """A parameter for one element."""
    shape = parameter.shape
    single = all(getattr(size, "value", None) == 1 for size in shape)
    return parameter(*[0] * len(shape)) if single else parameter(indices[axis])
