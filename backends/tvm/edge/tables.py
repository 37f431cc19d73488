"""The tables of a layout as C, and its weights as one file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from ....compiler.core.backend import Port
from ....compiler.core.elements import ELEMENTS, parse_type
from ....compiler.core.errors import TargetError
from .layout import Layout, aligned

WEIGHTS_ASSEMBLY = """\
    .section .rodata
    .balign 64
    .globl gw_weights
    .hidden gw_weights
gw_weights:
    .incbin "{file}"
    .byte 0
    .section .note.GNU-stack,"",%progbits
"""
"""The weights lie in the library as they are: its pages are mapped when they are needed, and shared by all that use it."""
COUNTED = ("tensor", "argument", "call", "input", "output")
KINDS = {"tensor": "GW_TENSOR", "int": "GW_INT", "float": "GW_FLOAT"}


def tables(layout: Layout, inputs: Sequence[Port], outputs: Sequence[Port]) -> str:
    """The C file that defines what ``tables.h`` declares. Raises TargetError for an element type that numpy has not."""
    kernels = dict.fromkeys(call.kernel for call in layout.calls)
    shapes = {tensor.shape: f"shape_{number}" for number, tensor in enumerate(layout.tensors)}
    lines = ['#include "tables.h"', ""]
    lines += [f"int {symbol(kernel)}(void *, const gw_any *, int32_t, gw_any *);" for kernel in kernels]
    for shape, name in shapes.items():
        lines += [f"static const int64_t {name}[] = {_braced(shape)};", f"static const int64_t {name}_strides[] = {_braced(_strides(shape))};"]
    arguments = [argument for call in layout.calls for argument in call.arguments]
    lines += _array("gw_tensor", "gw_tensors", [_tensor(tensor.is_weight, tensor.offset, tensor.shape, tensor.dtype, shapes) for tensor in layout.tensors])
    lines += _array("gw_argument", "gw_arguments", [_argument(kind, value) for kind, value in arguments])
    lines += _array("gw_call", "gw_calls", list(_calls(layout)))
    lines += _array("gw_port", "gw_inputs", [_port(port, layout, number) for port, number in zip(inputs, layout.inputs, strict=True)])
    lines += _array("gw_port", "gw_outputs", [_port(port, layout, number) for port, number in zip(outputs, layout.outputs, strict=True)])
    counts = (len(layout.tensors), len(arguments), len(layout.calls), len(layout.inputs), len(layout.outputs))
    lines += [f"const int32_t gw_{name}_count = {count};" for name, count in zip(COUNTED, counts, strict=True)]
    lines += [f"const size_t gw_arena_bytes = {layout.arena_bytes};", ""]
    return "\n".join(lines)


def symbol(kernel: str) -> str:
    """What TVM calls a kernel in an object file."""
    return f"__tvm_ffi_{kernel}"


def write_weights(layout: Layout, path: Path) -> None:
    """All weights, each where its tensor's offset says."""
    with path.open("wb") as file:
        for tensor in layout.weights:
            content = tensor.numpy().tobytes()
            file.write(content)
            file.write(bytes(aligned(len(content)) - len(content)))


def numpy_code(port: Port) -> str:
    """numpy's code of a port's elements, as .npy files have it. Raises TargetError for a type that numpy has not."""
    parsed = parse_type(port.dtype)
    if parsed.kind != "tensor" or parsed.is_foreign or parsed.element == "string":
        raise TargetError(f"'{port.name}' is a {port.dtype}, which a device without a runtime cannot take or give")
    return ELEMENTS[parsed.element][1].str


def _tensor(is_weight: bool, offset: int, shape: tuple[int, ...], dtype: str, shapes: dict[tuple[int, ...], str]) -> str:
    import tvm_ffi

    kind = tvm_ffi.dtype(dtype)
    name = shapes[shape]
    return f"{{{int(is_weight)}, {offset}, {len(shape)}, {int(kind.type_code)}, {int(kind.bits)}, {name}, {name}_strides}}"


def _argument(kind: str, value: int | float) -> str:
    integer, number = (0, float(value).hex()) if kind == "float" else (int(value), "0")
    return f"{{{KINDS[kind]}, {integer}, {number}}}"


def _calls(layout: Layout) -> Iterable[str]:
    first = 0
    for call in layout.calls:
        yield f"{{{symbol(call.kernel)}, {first}, {len(call.arguments)}}}"
        first += len(call.arguments)


def _port(port: Port, layout: Layout, number: int) -> str:
    return f'{{{_quoted(port.name)}, "{numpy_code(port)}", {layout.tensors[number].nbytes}, {number}}}'


def _quoted(text: str) -> str:
    """A C string of any name."""
    plain = "".join(chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{plain}"'


def _array(kind: str, name: str, items: Sequence[str]) -> list[str]:
    """An array has one element at least: C knows none without."""
    return [f"const {kind} {name}[] = {{", *(f"    {item}," for item in items or ["{0}"]), "};"]


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _braced(numbers: Sequence[int]) -> str:
    return "{" + ", ".join(map(str, numbers or (0,))) + "}"
