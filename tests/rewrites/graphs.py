"""What a graph of the catalogue is, how its model is made, and how one sees that the rewrite it asks for happened.

A question about the outcome is about meaning, so that any tool can answer it: operators that mean the same count as one (`GELU`, `ATTENTION`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from .operations import operations

MATMUL = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "TransposeMatMul", "FusedMatMulActivation", "Attention", "QAttention")
CONV = ("Conv", "FusedConv", "NhwcConv", "NhwcFusedConv")
GELU = ("Gelu", "FastGelu", "BiasGelu", "QuickGelu")
SWISH = ("Swish", "QuickGelu", "SiLU")
LAYER_NORM = ("LayerNormalization", "SkipLayerNormalization", "EmbedLayerNormalization")
RMS_NORM = ("RMSNormalization", "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization")
ATTENTION = ("Attention", "MultiHeadAttention", "GroupQueryAttention", "DecoderMaskedMultiHeadAttention", "PackedMultiHeadAttention")
ROTARY = ("RotaryEmbedding", "GemmaRotaryEmbedding", "GroupQueryAttention")
ADD = ("Add", "Sub", "Sum")
MUL = ("Mul", "Div")


@dataclass(frozen=True)
class Outcome:
    """A model before and after, and how often each operator is in the result (nested graphs and functions in use included, Constant left out)."""

    before: onnx.ModelProto
    after: onnx.ModelProto
    found: Counter[str]


Fired = Callable[[Outcome], bool]
"""Whether the rewrite happened."""


@dataclass(frozen=True)
class Graph:
    """One small model that asks for one rewrite; without ``fired`` it is a trap, where the tempting rewrite is wrong.

    ``text`` is the graph in ONNX text. What it declares between the angle brackets without a value is a weight, and gets random numbers, or what
    ``weights`` holds for it. ``target`` is "onnx" where standard operators are enough, "ort-cpu" where the kernel is the runtime's own.
    """

    name: str
    text: str
    fired: Fired | None = None
    target: str = "ort-cpu"
    opset: int = 20
    weights: Mapping[str, object] = field(default_factory=dict)
    samples: tuple[Mapping[str, object], ...] = ()

    def model(self) -> onnx.ModelProto:
        """The model, its weights filled in."""
        header = f'<ir_version: 10, opset_import: ["" : {self.opset}, "com.microsoft" : 1, "local" : 1]>\n'
        model = onnx.parser.parse_model(header + self.text)
        fill_weights(model, self.weights)
        if not model.functions:
            del model.opset_import[2:]
        if all(node.domain != "com.microsoft" for node in model.graph.node):
            del model.opset_import[1:2]
        return model


def graph(name: str, text: str, fired: Fired, **more: object) -> Graph:
    """A graph for which standard operators are enough."""
    return Graph(name, text, fired, **{"target": "onnx", **more})  # type: ignore[arg-type]


def runtime_graph(name: str, text: str, fired: Fired, **more: object) -> Graph:
    """A graph whose rewrite needs a kernel of ONNX Runtime's own."""
    return Graph(name, text, fired, **more)  # type: ignore[arg-type]


def trap(name: str, text: str, **more: object) -> Graph:
    """A graph whose tempting rewrite is wrong."""
    return Graph(name, text, **more)  # type: ignore[arg-type]


def fill_weights(model: onnx.ModelProto, weights: Mapping[str, object]) -> None:
    """Make an initialiser of every weight that is declared without a value."""
    rng = np.random.default_rng(len(model.graph.node))
    made = {name for node in model.graph.node for name in node.output}
    declared = [info for info in model.graph.value_info if info.name not in made]
    for info in declared:
        kind = info.type.tensor_type
        shape = [dim.dim_value for dim in kind.shape.dim]
        content = weights.get(info.name, _drawn(info.name, shape, rng))
        array = np.asarray(content).astype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.broadcast_to(array, shape).copy(), info.name))
        model.graph.value_info.remove(info)


def _drawn(name: str, shape: list[int], rng: np.random.Generator) -> np.ndarray:
    """Weights as a network has them: about as large as keeps the scale; what is called a variance, or a scale, is positive."""
    if name.startswith(("var", "scale")):
        return rng.uniform(0.5, 1.5, shape)
    if name.startswith("zp"):
        return rng.integers(0, 3, shape)
    if name.startswith("q"):
        return rng.integers(-90, 90, shape)
    return rng.standard_normal(shape) / np.sqrt(max(1, int(np.prod(shape[1:])) if len(shape) > 1 else 4))


def count(model: onnx.ModelProto) -> Counter[str]:
    """How often each operator is in a model."""
    bodies = {(function.domain, function.name): function for function in model.functions}
    found: Counter[str] = Counter()
    _count(model.graph, bodies, found)
    return found


def _count(graph: onnx.GraphProto | onnx.FunctionProto, bodies: Mapping[tuple[str, str], onnx.FunctionProto], found: Counter[str]) -> None:
    for node in graph.node:
        body = bodies.get((node.domain, node.op_type))
        if body is not None:
            _count(body, bodies, found)
        elif node.op_type != "Constant":
            found[node.op_type] += 1
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _count(attribute.g, bodies, found)


def fired(graph: Graph, before: onnx.ModelProto, after: onnx.ModelProto) -> bool:
    """Whether the rewrite that the graph asks for happened."""
    return graph.fired is not None and graph.fired(Outcome(before, after, count(after)))


def has(*operators: str) -> Fired:
    """One of these is there."""
    return lambda outcome: any(outcome.found[name] for name in operators)


def gone(*operators: str) -> Fired:
    """None of these is there."""
    return lambda outcome: not any(outcome.found[name] for name in operators)


def at_most(number: int, *operators: str) -> Fired:
    """No more than so many of these, all together; of all nodes when none is named."""
    return lambda outcome: sum(outcome.found[name] for name in operators or tuple(outcome.found)) <= number


def cheaper(part: float) -> Fired:
    """The result takes at most this part of the operations that the model took."""
    return lambda outcome: operations(outcome.after) <= part * operations(outcome.before)


def every(*questions: Fired) -> Fired:
    """All of them hold."""
    return lambda outcome: all(question(outcome) for question in questions)


def either(*questions: Fired) -> Fired:
    """One of them holds."""
    return lambda outcome: any(question(outcome) for question in questions)
