"""exp, erf and tanh as polynomials: code that uses all lanes of a processor, where TVM calls the C library for each number.

All are right to a few units in the last place over the whole range, NaN and infinities included. Sources: Cephes (expf), Eigen (erf and tanh, as rational
functions on the range where they are not yet 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

# fmt: off
LOG2_E = 1.44269504088896341
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4
EXP_LOW, EXP_HIGH = -104.0, 89.0
"""Where exp is 0 and infinite in single precision."""
EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
TANH_LIMIT, ERF_LIMIT = 9.0, 4.0
TANH_OVER = (
    -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08, 1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03,
)
TANH_UNDER = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
ERF_OVER = (
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05, -7.34990630326855e-04, -2.95459980854025e-03,
    -1.60960333262415e-02,
)
ERF_UNDER = (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02)
# fmt: on

Scalar = Any
"""An expression of type float32."""


def legalisations() -> dict[str, Callable[[Any, Any], Any]]:
    """For ``relax.transform.LegalizeOps``: operator -> how it becomes a kernel."""
    return {
        "relax.exp": _elementwise(exp),
        "relax.tanh": _elementwise(tanh),
        "relax.erf": _elementwise(erf),
        "relax.sigmoid": _elementwise(sigmoid),
        "relax.nn.softmax": _softmax,
    }


def exp(x: Scalar) -> Scalar:
    """2^n times a polynomial of the rest; the power is put together from two, so that the smallest and largest results come out too."""
    from tvm import tirx

    x = _between(x, EXP_LOW, EXP_HIGH)
    whole = tirx.floor(x * _number(LOG2_E) + _number(0.5))
    rest = x - whole * _number(LN2_HIGH) - whole * _number(LN2_LOW)
    power = tirx.Cast("int32", tirx.Select(tirx.isnan(x), _number(0.0), whole))
    half = tirx.shift_right(power, tirx.IntImm("int32", 1))
    return (_polynomial(rest, EXP) * rest * rest + rest + _number(1.0)) * _power_of_two(half) * _power_of_two(power - half)


def tanh(x: Scalar) -> Scalar:
    """A rational function up to 9, where tanh is 1."""
    x = _between(x, -TANH_LIMIT, TANH_LIMIT)
    return x * _polynomial(x * x, TANH_OVER) / _polynomial(x * x, TANH_UNDER)


def erf(x: Scalar) -> Scalar:
    """A rational function up to 4, where erf is 1."""
    x = _between(x, -ERF_LIMIT, ERF_LIMIT)
    return x * _polynomial(x * x, ERF_OVER) / _polynomial(x * x, ERF_UNDER)


def sigmoid(x: Scalar) -> Scalar:
    """1 / (1 + exp(-x))."""
    return _number(1.0) / (_number(1.0) + exp(_number(0.0) - x))


def _softmax(builder: Any, call: Any) -> Any:
    """exp(x - max) by its sum, along the axis."""
    if not _is_single(call):
        return _usual(builder, call)
    return builder.call_te(softmax, call.args[0], int(call.attrs.axis), primfunc_name_hint="softmax")


def softmax(x: Any, axis: int) -> Any:
    """Softmax of a tensor expression."""
    from tvm import te, topi

    axis = axis % len(x.shape)
    shape = list(x.shape)
    others = [size for place, size in enumerate(shape) if place != axis]

    def at(indices: Sequence[Any], inner: Any) -> list[Any]:
        return [*indices[:axis], inner, *indices[axis:]]

    def without(indices: Sequence[Any]) -> list[Any]:
        return [index for place, index in enumerate(indices) if place != axis]

    first, second = te.reduce_axis((0, shape[axis]), name="k"), te.reduce_axis((0, shape[axis]), name="k")
    largest = te.compute(others, lambda *i: te.max(x(*at(i, first)), axis=first), name="T_softmax_maxelem")
    powers = te.compute(shape, lambda *i: exp(x(*i) - largest(*without(i))), name="T_softmax_exp")
    total = te.compute(others, lambda *i: te.sum(powers(*at(i, second)), axis=second), name="T_softmax_expsum")
    assert topi is not None
    return te.compute(shape, lambda *i: powers(*i) / total(*without(i)), name="T_softmax_norm")


def _elementwise(function: Callable[[Scalar], Scalar]) -> Callable[[Any, Any], Any]:
    def legalise(builder: Any, call: Any) -> Any:
        if not _is_single(call):
            return _usual(builder, call)

        def compute(x: Any) -> Any:
            from tvm import te

            return te.compute(x.shape, lambda *i: function(x(*i)), name=f"T_{function.__name__}")

        return builder.call_te(compute, call.args[0], primfunc_name_hint=function.__name__)

    return legalise


def _usual(builder: Any, call: Any) -> Any:
    """TVM's own way."""
    return call.op.get_attr("FLegalize")(builder, call)


def _is_single(call: Any) -> bool:
    return str(call.args[0].ty.dtype) == "float32"


def _number(value: float) -> Scalar:
    from tvm import tirx

    return tirx.FloatImm("float32", value)


def _between(x: Scalar, low: float, high: float) -> Scalar:
    """NaN stays NaN: the limits stand first."""
    from tvm import tirx

    return tirx.max(_number(low), tirx.min(_number(high), x))


def _polynomial(x: Scalar, coefficients: Sequence[float]) -> Scalar:
    """By Horner's rule, the highest power first."""
    total = _number(coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + _number(coefficient)
    return total


def _power_of_two(exponent: Any) -> Scalar:
    from tvm import tirx

    return tirx.reinterpret("float32", tirx.shift_left(exponent + tirx.IntImm("int32", 127), tirx.IntImm("int32", 23)))
