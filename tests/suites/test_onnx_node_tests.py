"""ONNX's own node tests: each model that unoptimised ONNX Runtime can run computes the same after optimisation, for both targets,
as it is and with all inputs but the first turned into initialisers (so that folding has something to fold).
"""

from __future__ import annotations

import functools
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

import graphwright

CHUNKS = 24
AT_LEAST = 1300
"""How many of ONNX's node tests unoptimised ONNX Runtime is known to run; fewer means that the suite looked at nothing."""


@functools.cache
def cases() -> tuple[TestCase, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(sorted(load_model_tests(kind="node"), key=lambda case: case.name))


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def with_initialisers(model: onnx.ModelProto, inputs: list[object]) -> onnx.ModelProto | None:
    """All inputs but the first as initialisers; None where they cannot be."""
    if len(inputs) < 2 or not all(isinstance(value, np.ndarray) for value in inputs[1:]):
        return None
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    fixed.ir_version = max(fixed.ir_version, 4)
    for declared, value in zip(model.graph.input[1:], inputs[1:], strict=False):
        try:
            tensor = onnx.numpy_helper.from_array(value, declared.name)
        except Exception:
            return None
        if tensor.data_type != declared.type.tensor_type.elem_type:
            return None
        fixed.graph.initializer.append(tensor)
    del fixed.graph.input[1 : len(inputs)]
    return fixed


def difference(before: object, after: object) -> str | None:
    if isinstance(before, list):
        pairs = zip(before, after, strict=True) if isinstance(after, list) and len(after) == len(before) else [(0, 1)]
        return next((found for found in (difference(one, other) for one, other in pairs) if found), None)
    if not isinstance(before, np.ndarray):
        return None if before == after or (before is None and after is None) else f"{before} became {after}"
    if not isinstance(after, np.ndarray) or before.dtype != after.dtype or before.shape != after.shape:
        return f"{before.dtype}{before.shape} became {getattr(after, 'dtype', type(after))}{getattr(after, 'shape', '')}"
    if before.dtype.kind not in "fc":
        return None if (before == after).all() else "integers differ"
    with np.errstate(invalid="ignore", over="ignore"):
        tolerance = 64 * np.finfo(before.dtype).eps
        close = np.isclose(after, before, rtol=tolerance, atol=tolerance * float(np.abs(before[np.isfinite(before)]).max(initial=0.0)), equal_nan=True)
    return None if close.all() else f"{before[~close][:3]} became {after[~close][:3]}"


def check(name: str, model: onnx.ModelProto, feeds: dict[str, object], problems: list[str]) -> bool:
    """Whether unoptimised ONNX Runtime runs the model, twice with the same result; what went wrong after optimising it is added to ``problems``."""
    try:
        expected = session(model).run(None, feeds)
        repeated = session(model).run(None, feeds)
    except Exception:
        return False
    if any(difference(one, other) for one, other in zip(expected, repeated, strict=True)):
        return False
    for target in ("onnx", "ort-cpu"):
        try:
            optimised = graphwright.optimize(model, target=target)
            found = session(optimised).run(None, feeds)
        except Exception as error:
            problems.append(f"{name} [{target}]: {type(error).__name__}: {str(error)[:300]}")
            continue
        wrong = next((text for text in map(difference, expected, found) if text), None)
        if wrong:
            problems.append(f"{name} [{target}]: {wrong}")
    return True


def run_chunk(chunk: int) -> tuple[int, list[str]]:
    problems: list[str] = []
    ran = 0
    for case in cases()[chunk::CHUNKS]:
        model, inputs = case.model, list(case.data_sets[0][0])
        feeds = dict(zip((value.name for value in model.graph.input), inputs, strict=False))
        ran += check(case.name, model, feeds, problems)
        fixed = with_initialisers(model, inputs)
        if fixed is not None:
            check(f"{case.name} (initialisers)", fixed, {value.name: feeds[value.name] for value in fixed.graph.input if value.name in feeds}, problems)
    return ran, problems


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.filterwarnings("ignore")
def test_node_tests_stay_right(chunk: int) -> None:
    ran, problems = run_chunk(chunk)
    assert ran >= AT_LEAST // CHUNKS * 0.8
    assert not problems, "\n".join(problems)
