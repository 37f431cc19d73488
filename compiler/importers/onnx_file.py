"""Models in ONNX's own form: a file, its bytes, or a ModelProto."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto

from ..core.errors import ModelError
from .assemble import Draft
from .external import DataFolder
from .structure import bodies

_LARGEST = (1 << 31) - 1


def read_file(path: Path) -> Draft:
    """The model in a .onnx file; its external weights stay where they are. Raises ModelError when there is none."""
    try:
        if not path.exists():
            raise ModelError(f"there is no file '{str(path)[:300]}'")
        if path.is_dir():
            raise ModelError(_folder_message(path))
        if not path.is_file():
            raise ModelError(f"'{path}' is not a regular file")
        size = path.stat().st_size
        if size > _LARGEST:
            raise ModelError(f"'{path}' is {size / 2**30:.1f} GiB; a .onnx file has at most 2 GiB, larger models keep their weights in a data file beside it")
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"'{str(path)[:300]}' cannot be read: {error.strerror}") from None
    return Draft(parse(content, f"'{path}'"), DataFolder(path.parent))


def _folder_message(path: Path) -> str:
    inside = sorted(item.name for item in path.glob("*.onnx"))[:3]
    hint = f"; in it there is {', '.join(inside)}" if inside else " and has no config.json, so it is no Hugging Face model either"
    return f"'{path}' is a folder{hint}: give the path of the .onnx file"


def read_bytes(content: bytes) -> Draft:
    """The model in the bytes of a .onnx file."""
    return Draft(parse(content, "the model"))


def read_proto(proto: ModelProto) -> Draft:
    """A copy of the model; the caller's is not changed."""
    for _ in bodies(proto.graph, *proto.functions):
        pass
    copy = ModelProto()
    try:
        copy.CopyFrom(proto)
    except Exception as error:
        raise ModelError(f"the ModelProto cannot be copied: {error}") from error
    return Draft(copy)


def parse(content: bytes, what: str) -> ModelProto:
    """The bytes of a .onnx file as a message. Raises ModelError when they are none."""
    if not content:
        raise ModelError(f"{what} is empty")
    try:
        return onnx.ModelProto.FromString(content)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{what} is not an ONNX model, or is cut short ({reason[:120]})") from None
