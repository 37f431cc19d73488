"""A model in the making: the values there are so far, their dtypes and shapes, and how to add a node."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto

Dim = int | str
FLOAT, DOUBLE, HALF = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16
INT64, INT32, BOOL, UINT8 = TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.UINT8
FLOATS, INTEGERS = (FLOAT, DOUBLE, HALF), (INT64, INT32)
OPSET = 21


@dataclass(frozen=True)
class Value:
    """A value of the draft. ``exact`` says that no rounding is in it, so that it may be compared, rounded or truncated."""

    name: str
    dtype: int
    shape: tuple[Dim, ...]
    exact: bool = False
    constant: bool = False

    @property
    def rank(self) -> int:
        """How many dimensions it has."""
        return len(self.shape)

    @property
    def static(self) -> bool:
        """Whether every dimension is a number."""
        return all(isinstance(dim, int) for dim in self.shape)


@dataclass
class Draft:
    """What a random model consists of so far; ``draw`` decides everything."""

    draw: random.Random
    prefix: str = ""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    count: int = 0

    def fresh(self) -> str:
        """A name that nothing has."""
        self.count += 1
        return f"{self.prefix}v{self.count}"

    def input(self, dtype: int, shape: Sequence[Dim]) -> Value:
        """A new input of the model."""
        value = Value(self.fresh(), dtype, tuple(shape), exact=True)
        self.inputs.append(value)
        self.values.append(value)
        return value

    def constant(self, array: np.ndarray) -> Value:
        """A constant, most often as an initialiser, now and then as a node."""
        name = self.fresh()
        tensor = onnx.numpy_helper.from_array(array, name)
        if self.draw.random() < 0.1:
            self.nodes.append(onnx.helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.initializers.append(tensor)
        return Value(name, tensor.data_type, array.shape, exact=True, constant=True)

    def integers(self, *numbers: int) -> Value:
        """A constant vector of int64."""
        return self.constant(np.array(numbers, np.int64))

    def weight(self, dtype: int, *shape: int, positive: bool = False) -> Value:
        """Constant floats of the size that networks have; sometimes all ones, or with zeros among them."""
        generator = np.random.default_rng(self.draw.randrange(2**32))
        content = generator.standard_normal(shape) / math.sqrt(max(1, math.prod(shape[1:])) if len(shape) > 1 else 1)
        if self.draw.random() < 0.1:
            content = np.ones(shape)
        elif self.draw.random() < 0.1:
            content = np.where(generator.random(shape) < 0.3, 0, content)
        content = np.abs(content) + 0.5 if positive else content
        return self.constant(content.astype(onnx.helper.tensor_dtype_to_np_dtype(dtype)))

    def number(self, dtype: int, *choices: float) -> Value:
        """A constant scalar, or a vector of one."""
        content = np.array(self.draw.choice(choices), onnx.helper.tensor_dtype_to_np_dtype(dtype))
        return self.constant(content.reshape(1) if self.draw.random() < 0.3 else content)

    def add(self, kind: str, inputs: Sequence[Value | None], dtype: int, shape: Sequence[Dim], *, exact: bool | None = None, **attributes: object) -> Value:
        """A node with one output. It is exact if all its inputs are and ``exact`` is not False."""
        return self.add_many(kind, inputs, [(dtype, tuple(shape))], exact=exact, **attributes)[0]

    def add_many(
        self, kind: str, inputs: Sequence[Value | None], outputs: Sequence[tuple[int, tuple[Dim, ...]]], *, exact: bool | None = None, **attributes: object
    ) -> list[Value]:
        """A node with several outputs."""
        clean = exact is not False and all(value is None or value.exact for value in inputs)
        made = [Value(self.fresh(), dtype, shape, exact=clean or dtype in (*INTEGERS, BOOL, UINT8)) for dtype, shape in outputs]
        names = ["" if value is None else value.name for value in inputs]
        self.nodes.append(onnx.helper.make_node(kind, names, [value.name for value in made], **attributes))
        self.values.extend(made)
        return made

    def pick(self, wanted: Callable[[Value], bool] = lambda value: True) -> Value | None:
        """A value that fits, the latest most likely; None when there is none."""
        found = [value for value in self.values if wanted(value)]
        if not found:
            return None
        return self.draw.choice(found[-4:]) if self.draw.random() < 0.6 else self.draw.choice(found)

    def pick_float(self, *ranks: int) -> Value | None:
        """A float of one of these ranks; of any when none is given."""
        return self.pick(lambda value: value.dtype in FLOATS and (not ranks or value.rank in ranks))
