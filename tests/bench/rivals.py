"""Other optimizers, each asked to do what it does by default."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx

Optimizer = Callable[[onnx.ModelProto], onnx.ModelProto]


def rivals() -> dict[str, Optimizer]:
    """By name; what they print and log is swallowed."""
    return {"onnxslim": _slim, "onnxsim": _simplify, "onnxscript": _onnxscript, "onnxoptimizer": _onnxoptimizer}


def _slim(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxslim

    return onnxslim.slim(model)


def _simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxsim

    simplified, right = onnxsim.simplify(model)
    if not right:
        raise RuntimeError("onnxsim's own check failed")
    return simplified


def _onnxscript(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxscript import optimizer

    return optimizer.optimize(model)


def _onnxoptimizer(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxoptimizer

    return onnxoptimizer.optimize(model)


def node_count(model: onnx.ModelProto) -> int:
    """Nodes of the graph and of everything nested in it; Constant nodes, which are weights by another name, do not count."""
    return sum(_nodes(graph) for graph in (model.graph, *model.functions))


def _nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> int:
    inner = sum(_nodes(attribute.g) for node in graph.node for attribute in node.attribute if attribute.HasField("g"))
    return inner + sum(node.op_type != "Constant" for node in graph.node)


def as_run(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph that ONNX Runtime makes of it with all optimisations that a file can hold (layouts of this processor left out)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(path)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Nothing that Python code prints gets out."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
