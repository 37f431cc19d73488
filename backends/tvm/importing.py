"""Our graph as a Relax module, operator by operator, with TVM's own converters where they are right.

What is known of shapes is ours, not TVM's: a tensor that only says how large another one is becomes an expression over the sizes of the inputs, and
reshapes, expansions and slices are written with the shape that our inference found. TVM's importer stumbles where exporters compute shapes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ...compiler.core.dims import same
from ...compiler.core.errors import GraphwrightError, TargetError
from ...compiler.core.graph import constant, node_label, opset
from ...compiler.core.shapes import dims_of
from ...compiler.core.symbolic.contents import content
from ...compiler.core.target import STANDARD_DOMAINS
from .conversions import OWN
from .elements import NUMBERS, constant_of, dtype_of, refuse_type
from .forms import misread
from .layouts import TO_FIRST, TO_LAST, channels_last
from .prepare import BLOCK
from .symbols import Size, Symbols, as_number, is_same, limited

if TYPE_CHECKING:
    import tvm

LONGEST = 300


@dataclass
class Imported:
    """A model as a Relax module whose ``main`` takes the graph inputs in order and gives a tuple of the graph outputs.

    ``blocks`` says of variables bound in ``main`` from which planned block they came (None: from none); a variable that is not there belongs with the
    next one that is.
    """

    module: tvm.IRModule
    blocks: dict[str, str | None]


def import_model(model: ir.Model, *, turn: bool = True) -> Imported:
    """The Relax module of a prepared model (`prepare`); ``turn`` lets images have their channels last (`layouts`).

    Raises TargetError naming the operator that TVM cannot take.
    """
    return Importer(model, turn).run()


class Importer:
    """Imports one model. Converters of ours are given it: they emit through it."""

    def __init__(self, model: ir.Model, turn: bool = True) -> None:
        from tvm import relax
        from tvm.relax.frontend.onnx import onnx_frontend

        self.model = model
        self.opset = opset(model)
        self.symbols = Symbols()
        self.builder = relax.BlockBuilder()
        self._converters = onnx_frontend._get_convert_map()
        self._padded = onnx_frontend.onnx_input
        self._values: dict[ir.Value, Any] = {}
        self._turn = turn
        self._last: dict[ir.Value, Any] = {}
        """Values that are held with their channels last (`layouts`)."""
        self._blocks: dict[str, str | None] = {}
        self._block: str | None = None

    def run(self) -> Imported:
        """Import the model."""
        from tvm import relax

        inputs = [self._input(index, value) for index, value in enumerate(self.model.graph.inputs) if not value.is_initializer()]
        failure: GraphwrightError | None = None
        with self.builder.function("main", params=inputs, private=False):
            try:
                self._settle_limits()
                for node in self.model.graph:
                    self._node(node)
                results = [self.tensor(value) for value in self.model.graph.outputs]
            except GraphwrightError as error:
                failure, results = error, []
            self.builder.emit_func_output(relax.Tuple(results))
        if failure is not None:  # A builder that is left in the middle of a function complains on the console.
            raise failure
        module = self.builder.finalize()
        module["main"] = module["main"].with_attr("num_input", len(inputs))
        return Imported(module, self._blocks)

    def tensor(self, value: ir.Value) -> Any:
        """The expression of a value: a variable, or a constant."""
        from tvm import relax

        if value not in self._values:
            turned = self._last.get(value)
            self._values[value] = self._made(value) if turned is None else self.emit(relax.op.permute_dims(turned, list(TO_FIRST)))
        return self._values[value]

    def is_last(self, value: ir.Value) -> bool:
        """Whether a value is held with its channels last."""
        return value in self._last

    def last(self, value: ir.Value) -> Any:
        """A value of four dimensions with its channels last."""
        from tvm import relax

        if value not in self._last:
            tensor = constant(value)
            made = self.tensor(value) if tensor is None else None
            self._last[value] = constant_of(tensor.numpy().transpose(TO_LAST)) if tensor is not None else self.emit(relax.op.permute_dims(made, list(TO_LAST)))
        return self._last[value]

    @contextlib.contextmanager
    def standing_for(self, others: Mapping[ir.Value, Any]) -> Iterator[None]:
        """Let other expressions stand for values meanwhile."""
        before = self._values
        self._values = {**before, **others}
        try:
            yield
        finally:
            self._values = before

    def converted(self, node: ir.Node) -> list[Any]:
        """The results of a node, one variable for each."""
        own = OWN.get(node.op_type) if node.domain in STANDARD_DOMAINS else None
        made = own(self, node) if own is not None else None
        return self._unpacked(self.theirs(node) if made is None else made)

    def sizes(self, value: ir.Value | None) -> list[Size] | None:
        """What a small integer tensor holds, flattened, as expressions; None when that is not known."""
        known = content(value)
        return None if known is None else self.symbols.sizes(known.reshape(-1))

    def shape(self, value: ir.Value) -> list[Size] | None:
        """The shape of a value as expressions; None when a dimension is not known."""
        return self.symbols.sizes(dims_of(value))

    def scalar(self, size: Size, dtype: str) -> Any:
        """A size as a tensor without dimensions."""
        from tvm import relax

        block, self._block = self._block, None
        made = self.emit(relax.op.reshape(self.emit(relax.op.shape_to_tensor(relax.ShapeExpr([size]))), ()))
        made = made if dtype == "int64" else self.emit(relax.op.astype(made, dtype))
        self._block = block
        return made

    def emit(self, expression: Any) -> Any:
        """Bind an expression to a variable."""
        from tvm import relax

        if isinstance(expression, relax.Var) or _is_constant(expression):
            return expression
        return self._bound(self.builder.emit(expression))

    def _bound(self, made: Any) -> Any:
        """A variable, noted with the block that it belongs to."""
        from tvm import relax

        if isinstance(made, relax.Var):
            self._blocks.setdefault(made.name, self._block)
        return made

    def _settle_limits(self) -> None:
        """Where an operator reads a table of 64 rows cut to N beside something of N rows, N is 64 at most: checked first, and taken for granted then.

        TVM would not know that min(64, N) and N are the same size.
        """
        from tvm import relax

        for dim, other in limited(self.model).items():
            for value in self.model.graph.inputs:
                dims = dims_of(value) or ()
                if not any(same(one, other) for one in dims) or value not in self._values:
                    continue
                sizes = [self.symbols.size(dim if same(one, other) else one) for one in dims]
                if all(size is not None for size in sizes):
                    self.builder.match_cast(self._values[value], relax.TensorType(sizes, dtype_of(value)))
                    self.symbols.equate(dim, other)
                    break

    def _input(self, index: int, value: ir.Value) -> Any:
        from tvm import relax

        refuse_type(value, f"the input '{value.name}'")
        dims = dims_of(value)
        if dims is None:
            raise TargetError(f"tvm needs to know how many dimensions the input '{value.name}' has")
        self.symbols.declare(dims)
        sizes = [self.symbols.fresh() if size is None else size for size in map(self.symbols.size, dims)]
        self._values[value] = relax.Var(f"x{index}", relax.TensorType(sizes, dtype_of(value)))
        return self._values[value]

    def _made(self, value: ir.Value) -> Any:
        tensor = constant(value)
        if tensor is not None:
            refuse_type(value, f"the constant '{value.name}'", tensor.dtype)
            return constant_of(tensor.numpy())
        sizes = self.sizes(value)
        if sizes is None:
            raise TargetError(f"'{value.name}' is read before anything makes it")
        return self._from_sizes(value, sizes)

    def _from_sizes(self, value: ir.Value, sizes: list[Size]) -> Any:
        """A tensor of numbers that follow from the sizes of the inputs."""
        from tvm import relax

        assert value.shape is not None
        shape, dtype = value.shape.numpy(), dtype_of(value)
        if all(isinstance(size, int) for size in sizes):
            return constant_of(np.array(sizes).astype(dtype).reshape(shape))
        block, self._block = self._block, None
        made = self.emit(relax.op.shape_to_tensor(relax.ShapeExpr(sizes)))
        if dtype != "int64":
            made = self.emit(relax.op.astype(made, dtype))
        made = made if len(shape) == 1 else self.emit(relax.op.reshape(made, shape))
        self._block = block
        return made

    def _node(self, node: ir.Node) -> None:
        if node.op_type == "Constant" or all(self._is_computed(value) for value in node.outputs if value.name):
            return
        self._block = node.meta.get(BLOCK)
        if self._turn and node.domain in STANDARD_DOMAINS and (turned := self._turned(node)) is not None:
            self._last[node.outputs[0]] = self._bound(turned)
            self._block = None
            return
        for value, result in zip(node.outputs, self._convert(node), strict=False):
            if value.name:
                self._values[value] = self._bound(self._settled(node, value, result))
        self._block = None

    def _is_computed(self, value: ir.Value) -> bool:
        """Whether a value follows from the sizes of the inputs, so that nothing has to be computed for it."""
        return self.sizes(value) is not None and value.shape is not None and value.shape.is_static()

    def _convert(self, node: ir.Node) -> list[Any]:
        for value in node.outputs:
            if value.name and (value.uses() or value.is_graph_output()):
                refuse_type(value, node_label(node))
        try:
            return self.converted(node)
        except GraphwrightError:
            raise
        except Exception as error:  # TVM raises what it likes
            raise TargetError(f"tvm does not take {node_label(node)}: {sentence(error)}") from error

    def _turned(self, node: ir.Node) -> Any:
        """The result of a node with its channels last, a variable of the type and shape that our inference found; None where it is computed as it stands."""
        value = node.outputs[0]
        shape = self.shape(value)
        if shape is None or len(shape) != 4 or not value.name or value.dtype is None or value.dtype.name not in NUMBERS:
            return None
        try:
            found = channels_last(self, node)
        except GraphwrightError:
            raise
        except Exception as error:  # TVM raises what it likes
            raise TargetError(f"tvm does not take {node_label(node)}: {sentence(error)}") from error
        if found is None:
            return None
        made = self.emit(found.expression)
        fits = made.ty.shape is not None and all(is_same(one, other) for one, other in zip(made.ty.shape, (shape[axis] for axis in TO_LAST), strict=True))
        if not fits or str(made.ty.dtype) != dtype_of(value):
            raise TargetError(f"tvm makes {made.ty} of {node_label(node)} instead of {dtype_of(value)} {[shape[axis] for axis in TO_LAST]}")
        return made

    def theirs(self, node: ir.Node) -> Any:
        """What TVM's own converter makes of a node. Raises TargetError when it has none, or a wrong one."""
        converter = self._converters.get(node.op_type) if node.domain in STANDARD_DOMAINS else None
        if converter is None or node.op_type in ("If", "Loop", "Scan"):
            name = node.op_type if node.domain in STANDARD_DOMAINS else f"{node.domain}::{node.op_type}"
            raise TargetError(f"tvm does not take {name} ({node_label(node)})")
        wrong = misread(node)
        if wrong is not None:
            raise TargetError(f"tvm does not take {node_label(node)}: {wrong}")
        inputs = self._padded(None if value is None else self.tensor(value) for value in node.inputs)
        attributes = {name: _attribute(attr) for name, attr in node.attributes.items() if attr.value != ()}
        attributes["tvm_custom"] = {"name": node.name or "", "num_outputs": len(node.outputs)}
        return converter.get_converter(self.opset)(self.builder, inputs, attributes, [{}, {}])

    def _unpacked(self, made: Any) -> list[Any]:
        """One variable for each result."""
        from tvm import relax

        if isinstance(made, (relax.Tuple, list, tuple)):
            return [self.emit(self._as_tensor(item)) for item in made]
        made = self.emit(self._as_tensor(made))
        if isinstance(made.ty, relax.TupleType):
            return [self.emit(relax.TupleGetItem(made, index)) for index in range(len(made.ty.fields))]
        return [made]

    def _as_tensor(self, made: Any) -> Any:
        """Converters answer with a shape where they were asked for one; here every value is a tensor."""
        from tvm import relax

        made = self.builder.normalize(made)
        return relax.op.shape_to_tensor(made) if isinstance(made.ty, relax.ShapeType) else made

    def _settled(self, node: ir.Node, value: ir.Value, made: Any) -> Any:
        """A result with the type and the shape that our inference found. Raises TargetError when TVM computes something else."""
        from tvm import relax

        kind = made.ty
        if not isinstance(kind, relax.TensorType):
            raise TargetError(f"tvm does not take {node_label(node)}: its result is no tensor")
        if value.dtype is not None and str(kind.dtype) != dtype_of(value):
            raise TargetError(f"tvm computes {node_label(node)} in {kind.dtype} instead of {dtype_of(value)}")
        dims = dims_of(value)
        if dims is None:
            return made
        if kind.ndim not in (-1, len(dims)):
            raise TargetError(f"tvm makes {kind.ndim} dimensions of {node_label(node)} instead of {len(dims)}")
        theirs = list(kind.shape) if isinstance(kind.shape, relax.ShapeExpr) else [None] * len(dims)
        wanted = []
        for dim, size in zip(dims, theirs, strict=True):
            ours = self.symbols.size(dim)
            if ours is None:
                self.symbols.define(dim, self.symbols.fresh() if size is None else size)
                ours = self.symbols.size(dim)
            wanted.append(ours if ours is not None else self.symbols.fresh() if size is None else size)
        if all(size is not None for size in theirs) and all(is_same(one, other) for one, other in zip(wanted, theirs, strict=True)):
            return made
        numbers = [(as_number(one), as_number(other)) for one, other in zip(wanted, theirs, strict=True)]
        if any(one is not None and other is not None and one != other for one, other in numbers):
            raise TargetError(f"tvm makes the shape {theirs} of {node_label(node)} instead of {wanted}")
        return self.builder.match_cast(made, relax.TensorType(wanted, str(kind.dtype)))


def sentence(error: Exception) -> str:
    """The first line of what TVM says, without where in its sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = next((line for line in reversed(lines) if "Check failed" in line or "Error:" in line), lines[-1] if lines else type(error).__name__)
    return telling[:LONGEST]


def _attribute(attr: ir.Attr) -> object:
    """An attribute as TVM's converters read it."""
    if attr.type == ir.AttributeType.STRING:
        return str(attr.value).encode()
    if attr.type == ir.AttributeType.STRINGS:
        return tuple(str(text).encode() for text in attr.as_strings())
    if attr.type == ir.AttributeType.TENSOR:
        return ir.to_proto(attr.as_tensor())
    return tuple(attr.value) if isinstance(attr.value, (list, tuple)) else attr.value


def _is_constant(expression: Any) -> bool:
    import tvm

    return isinstance(expression, tvm.ir.GenericConst)


__all__ = ["BLOCK", "Imported", "Importer", "import_model", "sentence"]
