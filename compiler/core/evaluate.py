"""Working out constant parts of a graph, with ONNX Runtime where it can and ONNX's reference implementation where not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir

from .graph import constant, opset

Constants = Mapping[ir.Value, ir.TensorProtocol]

_EMBEDDED_BYTES = 4096
"""Constants up to this size stand in the little model itself: some kernels want them there."""
_WIDER: Mapping[ir.DataType, ir.DataType] = {
    ir.DataType.BFLOAT16: ir.DataType.FLOAT,
    ir.DataType.FLOAT8E4M3FN: ir.DataType.FLOAT,
    ir.DataType.FLOAT8E4M3FNUZ: ir.DataType.FLOAT,
    ir.DataType.FLOAT8E5M2: ir.DataType.FLOAT,
    ir.DataType.FLOAT8E5M2FNUZ: ir.DataType.FLOAT,
    ir.DataType.INT4: ir.DataType.INT8,
    ir.DataType.UINT4: ir.DataType.UINT8,
}
"""Types that do not pass between ONNX Runtime and numpy, and the type they pass as: every number of the first is one of the second."""
_NARROW_NUMPY = {
    ir.DataType.BFLOAT16: ml_dtypes.bfloat16,
    ir.DataType.FLOAT8E4M3FN: ml_dtypes.float8_e4m3fn,
    ir.DataType.FLOAT8E4M3FNUZ: ml_dtypes.float8_e4m3fnuz,
    ir.DataType.FLOAT8E5M2: ml_dtypes.float8_e5m2,
    ir.DataType.FLOAT8E5M2FNUZ: ml_dtypes.float8_e5m2fnuz,
    ir.DataType.INT4: ml_dtypes.int4,
    ir.DataType.UINT4: ml_dtypes.uint4,
}
_PLAIN_KINDS = "fiub"


def evaluate(nodes: Sequence[ir.Node], wanted: Sequence[ir.Value]) -> dict[ir.Value, ir.TensorProtocol]:
    """The tensors that ``nodes``, in an order they can run in, make of constants: those ``wanted`` that can be worked out.

    All nodes run in one session. A node that no runtime here can run, and what depends on it, is left out.
    """
    found: dict[ir.Value, ir.TensorProtocol] = {}
    _evaluate(list(nodes), list(dict.fromkeys(wanted)), found, set())
    return {value: found[value] for value in wanted if value in found}


def _evaluate(nodes: list[ir.Node], wanted: list[ir.Value], found: dict[ir.Value, ir.TensorProtocol], lost: set[ir.Value]) -> None:
    """Fill ``found``; when the whole fails, its halves, down to the single node that cannot be run."""
    nodes = _runnable(nodes, lost)
    made = {value for node in nodes for value in node.outputs}
    wanted = [value for value in wanted if value in made]
    if not wanted:
        return
    if len(nodes) == 1:
        _evaluate_one(nodes[0], wanted, found, lost)
        return
    results = _attempt(_run_onnxruntime, nodes, wanted, found)
    if results is not None:
        found.update(results)
        return
    first, second = nodes[: len(nodes) // 2], nodes[len(nodes) // 2 :]
    _evaluate(first, [*wanted, *_crossing(first, second)], found, lost)
    _evaluate(second, wanted, found, lost)


def _runnable(nodes: list[ir.Node], lost: set[ir.Value]) -> list[ir.Node]:
    """The nodes that depend on nothing lost; the outputs of the others are lost too."""
    kept = []
    for node in nodes:
        if any(value in lost for value in node.inputs if value is not None):
            lost.update(node.outputs)
        else:
            kept.append(node)
    return kept


def _crossing(first: list[ir.Node], second: list[ir.Node]) -> list[ir.Value]:
    made = {value for node in first for value in node.outputs}
    return [value for node in second for value in node.inputs if value in made and value is not None]


def _evaluate_one(node: ir.Node, wanted: list[ir.Value], found: dict[ir.Value, ir.TensorProtocol], lost: set[ir.Value]) -> None:
    results = _attempt(_run_onnxruntime, [node], wanted, found)
    if results is None:
        results = _attempt(_run_reference, [node], wanted, found)
    if results is None:
        lost.update(node.outputs)
    else:
        found.update(results)


Engine = Callable[[Sequence[ir.Node], Sequence[ir.Value], Constants], dict[ir.Value, ir.TensorProtocol]]


def _attempt(engine: Engine, nodes: Sequence[ir.Node], wanted: Sequence[ir.Value], known: Constants) -> dict[ir.Value, ir.TensorProtocol] | None:
    """What an engine makes of the nodes; None when it refuses, for whatever reason: then nothing is folded."""
    try:
        return engine(nodes, wanted, known)
    except Exception:  # noqa: BLE001 (each runtime has exceptions of its own for a kernel that is missing or that refuses its inputs)
        return None


def _leaves(nodes: Sequence[ir.Node], known: Constants) -> dict[ir.Value, ir.TensorProtocol]:
    """The constants that the nodes read."""
    made = {value for node in nodes for value in node.outputs}
    leaves: dict[ir.Value, ir.TensorProtocol] = {}
    for node in nodes:
        for value in node.inputs:
            if value is None or value in made or value in leaves:
                continue
            tensor = known[value] if value in known else constant(value)
            if tensor is None:
                raise ValueError(f"'{value.name}' is no constant")
            leaves[value] = tensor
    return leaves


class _LittleModel:
    """The nodes as a model of their own: small constants inside, large ones as inputs, so that weights are never copied."""

    def __init__(self, nodes: Sequence[ir.Node], wanted: Sequence[ir.Value], known: Constants) -> None:
        self.names: dict[ir.Value, str] = {}
        self.graph = onnx.GraphProto(name="constants")
        self.feeds: dict[str, np.ndarray] = {}
        for value, tensor in _leaves(nodes, known).items():
            self._add_leaf(value, tensor)
        for node in nodes:
            self._add_node(node)
        self.outputs = [self._add_output(value) for value in wanted]
        self.proto = onnx.ModelProto(ir_version=onnx.IR_VERSION, graph=self.graph)
        domains = dict.fromkeys(["", *(("" if node.domain == "ai.onnx" else node.domain) for node in nodes)])
        self.proto.opset_import.extend(onnx.helper.make_opsetid(domain, _version(nodes[0], domain)) for domain in domains)

    def _name(self, value: ir.Value | None) -> str:
        return "" if value is None else self.names.setdefault(value, f"v{len(self.names)}")

    def _add_leaf(self, value: ir.Value, tensor: ir.TensorProtocol) -> None:
        name = self._name(value)
        if tensor.nbytes <= _EMBEDDED_BYTES:
            proto = ir.to_proto(tensor)
            proto.name = name
            self.graph.initializer.append(proto)
            return
        wider = _WIDER.get(tensor.dtype)
        fed = name if wider is None else f"{name}_wide"
        array = tensor.numpy()
        self.feeds[fed] = array if wider is None else array.astype(wider.numpy())
        self.graph.input.append(onnx.helper.make_tensor_value_info(fed, int(wider or tensor.dtype), list(tensor.shape.numpy())))
        if wider is not None:
            self.graph.node.append(onnx.helper.make_node("Cast", [fed], [name], to=int(tensor.dtype)))

    def _add_node(self, node: ir.Node) -> None:
        proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain, input=map(self._name, node.inputs), output=map(self._name, node.outputs))
        proto.attribute.extend(map(ir.serde.serialize_attribute, node.attributes.values()))
        self.graph.node.append(proto)

    def _add_output(self, value: ir.Value) -> str:
        name = self._name(value)
        wider = _WIDER.get(value.dtype) if value.dtype is not None else None
        shown = name if wider is None else f"{name}_wide"
        if wider is not None:
            self.graph.node.append(onnx.helper.make_node("Cast", [name], [shown], to=int(wider)))
        self.graph.output.append(onnx.ValueInfoProto(name=shown))
        return shown


def _version(node: ir.Node, domain: str) -> int:
    owner = node.graph
    return (opset(owner, domain) if owner is not None else 0) or 1


def _run_onnxruntime(nodes: Sequence[ir.Node], wanted: Sequence[ir.Value], known: Constants) -> dict[ir.Value, ir.TensorProtocol]:
    import onnxruntime

    little = _LittleModel(nodes, wanted, known)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(little.proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return _as_tensors(wanted, session.run(little.outputs, little.feeds))


def _run_reference(nodes: Sequence[ir.Node], wanted: Sequence[ir.Value], known: Constants) -> dict[ir.Value, ir.TensorProtocol]:
    import onnx.reference

    little = _LittleModel(nodes, wanted, known)
    with np.errstate(all="ignore"):
        results = onnx.reference.ReferenceEvaluator(little.proto).run(little.outputs, little.feeds)
    return _as_tensors(wanted, list(results))


def _as_tensors(wanted: Sequence[ir.Value], results: Sequence[object]) -> dict[ir.Value, ir.TensorProtocol]:
    found: dict[ir.Value, ir.TensorProtocol] = {}
    for value, result in zip(wanted, results, strict=True):
        array = np.asarray(result)
        if value.dtype in _NARROW_NUMPY:
            found[value] = ir.Tensor(array.astype(_NARROW_NUMPY[value.dtype]), dtype=value.dtype)
            continue
        if not isinstance(result, np.ndarray | np.generic) or array.dtype.kind not in _PLAIN_KINDS:
            raise TypeError(f"'{value.name}' is no tensor of numbers")
        found[value] = ir.Tensor(np.ascontiguousarray(array).reshape(array.shape))
    return found
