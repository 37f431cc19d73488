"""What a device gets: model.onnx, run.py and, for builds of ONNX Runtime with only the operators needed, model.ort."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from ...compiler.core.backend import Array, Runner, Sample
from ...compiler.core.errors import ArtifactError, GraphwrightError
from .failures import clean
from .files import MODEL, write_model
from .options import Options
from .run_template import program
from .session import OrtRunner, open_file

ORT_MODEL = "model.ort"
OPERATORS = "required_operators.config"
RUN = "run.py"
LARGEST_ORT = 512 << 20
"""Bytes of weights: a model.ort is made and loaded whole in memory."""
LAYOUTS = ("NchwcTransformer", "NhwcTransformer")
"""Graph optimizers that lay weights out for the very CPU that this is."""


def write_package(model: ir.Model, options: Options, folder: Path, samples: Sequence[Sample] = ()) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Write everything into ``folder``; returns the files, and in one sentence each what was left out and why.

    A ``model.onnx`` that is already there is taken as the model. Raises ArtifactError when the disk refuses.
    """
    files = [path for path in (folder / MODEL, folder / f"{MODEL}.data") if path.is_file()] if (folder / MODEL).is_file() else list(write_model(model, folder))
    notes: list[str] = []
    weights = sum(path.stat().st_size for path in files)
    if weights > LARGEST_ORT:
        notes.append(f"no {ORT_MODEL}: the model's {weights:,} bytes would have to be held in memory at once")
    else:
        try:
            files += write_ort(folder, options, samples)
        except GraphwrightError as error:
            notes.append(f"no {ORT_MODEL}: {error}")
    write_text(folder / RUN, program(options))
    return (*files, folder / RUN), tuple(notes)


def write_ort(folder: Path, options: Options, samples: Sequence[Sample] = ()) -> list[Path]:
    """Write model.ort and the list of its operators from the folder's model.onnx, and see that it gives the same bits on ``samples``.

    It is optimised as far as any CPU can use: what ONNX Runtime lays out for this one is left to the full model. Raises ArtifactError when it cannot be
    made or gives something else; then neither file is left behind.
    """
    portable = portable_options(options)
    target, operators = folder / ORT_MODEL, folder / OPERATORS
    try:
        _convert(folder / MODEL, target, portable)
        _list_operators(target, operators)
        _check_same(folder / MODEL, target, portable, samples)
    except BaseException:
        target.unlink(missing_ok=True)
        operators.unlink(missing_ok=True)
        raise
    return [target, operators]


def portable_options(options: Options) -> Options:
    """The chosen options without what is only right for this CPU."""
    level = "extended" if options.level == "all" else options.level
    return replace(options, level=level, without=tuple(dict.fromkeys((*options.without, *LAYOUTS))))


def _convert(source: Path, target: Path, options: Options) -> None:
    given = options.session_options()
    given.optimized_model_filepath = str(target)
    given.add_session_config_entry("session.save_model_format", "ORT")
    try:
        ort.InferenceSession(str(source), given, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        raise ArtifactError(f"ONNX Runtime cannot write it: {clean(str(error))}") from error
    if not target.is_file():
        raise ArtifactError("ONNX Runtime did not write it")


def _list_operators(model: Path, target: Path) -> None:
    """ONNX Runtime's own list, without the path that it was made at."""
    create = _operator_lister()
    with tempfile.TemporaryDirectory() as draft:
        listed = Path(draft) / OPERATORS
        create([model], listed, False)
        lines = [line for line in listed.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    write_text(target, "\n".join([f"# Operators of {model.name}: domain;opset;names", *lines, ""]))


def _operator_lister() -> Callable[[list[Path], Path, bool], None]:
    """ONNX Runtime's tool; importing it configures logging and the module path of the whole program, which is put back."""
    root = logging.getLogger()
    handlers, path = root.handlers[:], sys.path[:]
    try:
        from onnxruntime.tools.ort_format_model import create_config_from_models
    finally:
        root.handlers[:], sys.path[:] = handlers, path
    logging.getLogger("ort_format_model.utils").setLevel(logging.WARNING)
    return cast("Callable[[list[Path], Path, bool], None]", create_config_from_models)


def write_text(path: Path, text: str) -> None:
    """Write a file. Raises ArtifactError with the reason when the disk refuses."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"'{path}' cannot be written: {error.strerror}") from error


def _check_same(model: Path, packed: Path, options: Options, samples: Sequence[Sample]) -> None:
    with open_file(model, options) as expected, open_file(packed, replace(options, level="off")) as got:
        for sample in samples or _ones(expected):
            _same(expected, got, sample)


def _same(expected: Runner, got: Runner, sample: Sample) -> None:
    results = got.run(sample)
    for name, value in expected.run(sample).items():
        if not same_bits(value, results[name]):
            raise ArtifactError(f"its output '{name}' is not the same as {MODEL}'s")


def same_bits(one: Array, other: Array) -> bool:
    """Whether two outputs are alike in type, shape and content; NaN equals NaN."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_bits, one, other))
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
        return type(one) is type(other) and one == other
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype == object:
        return bool((one == other).all())
    return one.tobytes() == other.tobytes()


def _ones(runner: OrtRunner) -> list[Sample]:
    """Without samples: arrays of ones, where the inputs' types allow."""
    from .ports import ELEMENTS, parse_type

    feeds: Sample = {}
    for port in runner.inputs:
        kind = parse_type(port.dtype)
        if kind.kind != "tensor" or kind.element == "string":
            return []
        feeds[port.name] = np.ones([dim if isinstance(dim, int) else 1 for dim in port.shape or ()], dtype=ELEMENTS[kind.element][1])
    return [feeds]
