"""ONNX Runtime's exceptions as errors of one sentence."""

from __future__ import annotations

import re

from ...compiler.core.errors import GraphwrightError, InputError, ModelError, TargetError

LONGEST = 400
_PREFIX = re.compile(r"^\s*\[ONNXRuntimeError\] : \d+ : \w+ : ")
_SOURCE = re.compile(r"(?:/\S+/)?[\w.]+\.(?:cc|h|cpp|hpp):\d+\s+")
_SIGNATURE = re.compile(r"^(?:(?:[\w:<>,&*~\s]|\((?:anonymous namespace|lambda)\))+?)::~?\w+(?:<[^()]*>)?\([^()]*\)(?:\s*const)?(?:::<lambda\([^()]*\)>)?\s+")
_NO_KERNEL = re.compile(r"Could not find an implementation for (?P<op>\S+?)\((?P<version>\d+)\) node with name '(?P<node>[^']*)'")
_UNKNOWN_OP = re.compile(
    r"No Op registered for (?P<op>\S+) with domain_version of (?P<version>\d+)|error: (?P<domain>[^\s:]*):(?P<other>\w+)\(.*is not a registered function/op"
)
_TOO_NEW = re.compile(r"Unsupported model IR version|support for models stamped with official released onnx opset")


def cannot_load(error: Exception, device: str = "CPU") -> GraphwrightError:
    """What to raise when no session could be made of a model: TargetError when a kernel is missing, else ModelError."""
    text = str(error)
    if match := _NO_KERNEL.search(text):
        where = f" (node '{match['node']}')" if match["node"] else ""
        return TargetError(f"ONNX Runtime has no {device} kernel for {match['op']} of opset {match['version']} with these types{where}")
    if match := _UNKNOWN_OP.search(text):
        name = match["op"] or f"{match['domain'] or 'ai.onnx'}::{match['other']}"
        version = f" of opset {match['version']}" if match["version"] else ""
        return TargetError(f"ONNX Runtime does not know the operator {name}{version}")
    if _TOO_NEW.search(text):
        return TargetError(f"this version of ONNX Runtime is too old for the model: {clean(text)}")
    return ModelError(f"ONNX Runtime cannot load the model: {clean(text)}")


def cannot_run(error: Exception) -> GraphwrightError:
    """What to raise when a session failed on inputs of the right names and dtypes."""
    return InputError(f"the model cannot run on these inputs: {clean(str(error))}")


def clean(text: str) -> str:
    """A message of ONNX Runtime without status codes, source files and C++ signatures, on one line."""
    text = " ".join(_PREFIX.sub("", text).split())
    pieces = [_SIGNATURE.sub("", piece) for piece in _SOURCE.split(text)]
    text = " ".join(piece.strip() for piece in pieces if piece.strip()).rstrip(". ")
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
