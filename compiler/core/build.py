"""The pen that rules build replacements with: it looks like the one that draws patterns."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes  # noqa: F401  (numpy learns bfloat16 and float8 from it)
import numpy as np
import onnx_ir as ir

from .graph import release, subgraphs_of

Operand = ir.Value | np.ndarray | float | int | bool | None


class Build:
    """Makes nodes for a replacement: ``op.Mul(x, 0.5)``, ``op.BiasGelu(x, b, _domain="com.microsoft")``, ``op.const(array)``.

    A Python number takes the dtype of the node's first value operand. Nothing is part of a graph until the engine accepts it.
    """

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []

    def const(self, content: np.ndarray | ir.TensorProtocol | int | float | list[int], hint: str = "const") -> ir.Value:
        """A constant; a list of ints becomes an int64 vector. ``hint`` starts its name."""
        if isinstance(content, (list, int, float)) and not isinstance(content, np.generic):
            content = np.array(content, dtype=np.int64 if not isinstance(content, float) else np.float32)
        tensor = _tensor(content) if isinstance(content, (np.ndarray, np.generic)) else content
        value = ir.Value(shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor)
        value.meta["hint"] = hint
        self.constants.append(value)
        return value

    def node(
        self, op_type: str, inputs: tuple[Operand, ...], attributes: dict[str, object], domain: str = "", outputs: int = 1, name: str | None = None
    ) -> ir.Node:
        """A node with ``outputs`` outputs; trailing missing inputs are left out, attributes that are None too."""
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        dtype = next((item.dtype for item in inputs if isinstance(item, ir.Value) and item.dtype is not None), None)
        values = [self._value(item, dtype) for item in inputs]
        attrs = [item if isinstance(item, ir.Attr) else _attr(key, item) for key, item in attributes.items() if item is not None]
        made = ir.Node(domain, op_type, values, attrs, num_outputs=outputs, name=name)
        self.nodes.append(made)
        return made

    def like(self, node: ir.Node, *inputs: Operand, **changed: object) -> ir.Value | tuple[ir.Value, ...]:
        """A node of the same operator and attributes (but for ``changed``; None drops one) on other inputs.

        A node that holds subgraphs cannot be copied this way.
        """
        if subgraphs_of(node):
            raise ValueError(f"{node.op_type} holds subgraphs; it cannot be copied")
        attributes: dict[str, object] = {**node.attributes, **changed}
        made = self.node(node.op_type, inputs, attributes, node.domain, len(node.outputs))
        return made.outputs[0] if len(made.outputs) == 1 else tuple(made.outputs)

    def discard(self) -> None:
        """Forget what was made: a node reads its inputs, and so counts as a user of them, from the moment it exists."""
        for node in self.nodes:
            release(node)
            for index in range(len(node.inputs)):
                node.replace_input_with(index, None)

    def _value(self, item: Operand, dtype: ir.DataType | None) -> ir.Value | None:
        if item is None or isinstance(item, ir.Value):
            return item
        if isinstance(item, np.ndarray):
            return self.const(item)
        return self.const(np.array(item, dtype=(dtype or ir.DataType.FLOAT).numpy()))

    def __getattr__(self, op_type: str) -> Callable[..., ir.Value | tuple[ir.Value, ...]]:
        if op_type.startswith("_"):
            raise AttributeError(op_type)

        def make(*inputs: Operand, _domain: str = "", _outputs: int = 1, **attributes: object) -> ir.Value | tuple[ir.Value, ...]:
            made = self.node(op_type, inputs, attributes, _domain, _outputs)
            return made.outputs[0] if _outputs == 1 else tuple(made.outputs)

        return make


def _tensor(content: np.ndarray | np.generic) -> ir.TensorProtocol:
    """`onnx_ir.tensor` tries what else the content might be first, which takes seven times as long; only strings need it."""
    return ir.tensor(content) if content.dtype.kind in "OSU" else ir.Tensor(np.asarray(content))


def _attr(name: str, value: object) -> ir.Attr:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        value = int(value)
    return ir.convenience.convert_attribute(name, value)  # type: ignore[arg-type]
