"""Whether types and shapes fit together, as ONNX's own inference sees it."""

from __future__ import annotations

import re
from typing import Any

import onnx
import onnx_ir as ir

from ..core.errors import ModelError
from ..serialize import skeleton
from .structure import bodies

_WHERE = re.compile(r"\(op_type:\s*(?P<op>[^,)]*)(?:,\s*node name:\s*(?P<node>[^)]*))?\)\s*:?\s*")
_BETWEEN = re.compile(r"\n(?=\(op_type:)")
_DTYPES = re.compile(r"(elem type differs from existing elem type:) \((\d+)\) vs \((\d+)\)")
_NOISE = re.compile(r"\[(?:Shape|Type)InferenceError\]\s*|Inference error\(s\):\s*|Shape inference error\(s\):\s*")


def check_inference(model: ir.Model) -> None:
    """Raise ModelError where an operator gets a dtype or shape that it does not take. No weights are needed for that, only their shapes."""
    proto = skeleton(model)
    for body in bodies(proto.graph, *proto.functions):
        if isinstance(body, onnx.GraphProto):
            for info in (*body.output, *(body.input if body is not proto.graph else ())):
                _forget_shape(info)
    try:
        onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    except Exception as error:
        reasons = [reason for reason in _BETWEEN.split(str(error)) if not _is_unreliable(reason)]
        if reasons:
            raise ModelError(_sentence(reasons[0])) from None


def _is_unreliable(reason: str) -> bool:
    """ONNX infers a few operators through their bodies, and loses default attributes on the way."""
    where = _WHERE.search(reason)
    schemas: list[Any] = [schema for schema in onnx.defs.get_all_schemas() if where is not None and schema.name == where["op"].strip()]
    return any((schema.has_function or schema.has_context_dependent_function) and not schema.has_type_and_shape_inference_function for schema in schemas)


def _forget_shape(info: onnx.ValueInfoProto) -> None:
    """Shapes declared for outputs, and within subgraphs, may be wrong or too narrow, and no runtime minds."""
    if info.type.HasField("tensor_type"):
        info.type.tensor_type.ClearField("shape")


def _dtype(number: str) -> str:
    return onnx.TensorProto.DataType.Name(int(number)) if int(number) in onnx.TensorProto.DataType.values() else number


def _sentence(text: str) -> str:
    where = _WHERE.search(text)
    reason = _NOISE.sub("", _WHERE.sub("", text[where.start() :] if where else text, count=1)).strip()
    first = reason.splitlines()[0].strip().rstrip(".") if reason else "its inputs do not fit"
    first = _DTYPES.sub(lambda match: f"{match[1]} {_dtype(match[2])} vs {_dtype(match[3])}", first)
    if where is None:
        return f"the model's types or shapes do not fit together: {first[:300]}"
    node = f" '{where['node'].strip()}'" if where["node"] else ""
    return f"types or shapes do not fit at the {where['op'].strip()} node{node}: {first[:300]}"
