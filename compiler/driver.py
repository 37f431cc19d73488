"""The front door: `compile`, `optimize` and `load`."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from .artifact import Artifact, load_artifact
from .atomic import probe
from .budget import Budget, Metric, MetricYardstick, accuracy_entry, measure_accuracy
from .cache import Cache, Explanation, name_of, open_cache
from .calibration.data import CalibrationData
from .calibration.opening import open_calibration
from .census import weight_bytes
from .compilation import Compilation, Stages
from .core.backend import Backend
from .core.collector import seldom_collecting
from .core.errors import ArtifactError, GraphwrightWarning, InputError, ModelError, TargetError, UsageError
from .core.graph import clone_model
from .core.records import PassRecord
from .elsewhere import with_fixed_sizes
from .fingerprint import components
from .importer import Source, import_model
from .manager import Manager
from .manifest import refuse_foreign
from .pipeline import Level, recipe
from .report import AccuracyEntry, CacheEntry
from .request import Request
from .samples import generate
from .targets import find_backend, find_target, generates
from .tuning import tuning_for, tuning_state
from .verify import Verifier

if TYPE_CHECKING:
    import onnx

__all__ = ["compile", "compile_model", "explain_cache", "load", "optimize", "optimize_model"]


TOLD = 8
"""Calibration samples that results are also verified, timed and told with."""
LARGEST_KEPT = 1 << 30
"""Bytes of weights; larger models are not kept in the cache."""


@dataclass(frozen=True)
class Optimized:
    """A model after its passes, the model before, and what each pass did; ``verified`` says whether numbers were compared."""

    model: ir.Model
    source: ir.Model
    records: tuple[PassRecord, ...]
    recipe: str
    verified: bool


def compile(
    model: object,
    example_inputs: object = None,
    *,
    target: str = "ort-cpu",
    level: Level = 2,
    precision: str = "fp32",
    calibration: object = None,
    metric: Metric | None = None,
    max_drop: float | str | None = None,
    output: str | Path | None = None,
    method: str | None = None,
    size: bool = False,
    budget: str | None = None,
    preprocess: str | Mapping[str, object] | None = None,
) -> Artifact:
    """Make a verified artifact of a model, never slower than the model.

    ``model`` is an .onnx path, bytes, an ``onnx.ModelProto``, ``onnx_ir.Model``, ``gs.Graph``, ``torch.nn.Module``, ``ExportedProgram``, or a
    Hugging Face folder. ``example_inputs`` are what it is called with (a PyTorch module needs them): a tuple, a dict by input name, or a list of
    such dicts, one for each sample.

    ``level`` is 0 to 3, a pipeline as text, or a sequence of passes (a function on ``gs.Graph`` counts as one).

    ``precision`` is fp32, int8, int8-dynamic, int4, nf4, fp16, bf16, fp8, or mixed, which chooses site by site under ``budget`` ("size=0.3",
    "latency=0.8", "drop=0.01"); ``method`` is how the numbers are found (``graphwright passes NAME`` lists the methods of a pass), ``size`` says that a
    smaller model is wanted even if it is slower. ``calibration`` are real inputs: samples, paths, or "random"; ``preprocess`` says how images and
    texts become inputs. At fp32 they are only verified with.

    ``metric`` takes a runner and gives a number, higher is better; ``max_drop`` bounds how far it may fall: 0.01, or "0.5%" of what it was. Without a
    metric it bounds how far a compressed model's answers may leave the input's: agreement on the largest score where an output holds scores, else cosine.
    Sites that mind compression most stay as they are until it holds. ``output`` is the folder the artifact is saved to.

    What ships was measured against the input, in turns; if nothing is faster beyond doubt, the input ships and the report says so. Raises
    GraphwrightError subclasses, each with one sentence; nothing is written then.
    """
    request = Request(
        target=target,
        level=level,
        precision=precision,
        method=method,
        size=size,
        allowance=budget,
        calibration=calibration,
        preprocess=preprocess,
        metric=metric,
        max_drop=max_drop,
        output=Path(output) if output is not None else None,
    )
    return compile_model(model, example_inputs, request)


def optimize(model: object, *, target: str = "onnx", level: Level = 2) -> onnx.ModelProto | ir.Model:
    """The model with its graph rewritten, checked once against the input on generated inputs; nothing is timed.

    An ``onnx_ir.Model`` gives an ``onnx_ir.Model``; anything else, a path too, gives an ``onnx.ModelProto``. When the runtime cannot run the input
    at all, only its structure is checked, and a GraphwrightWarning says so.
    """
    from .serialize import to_proto

    rewritten = optimize_model(model, Request(target=target, level=level)).model
    return rewritten if isinstance(model, ir.Model) else to_proto(rewritten)


def load(folder: str | Path) -> Artifact:
    """Open an artifact that was saved. Raises ArtifactError when a file is missing or is not what was written."""
    return load_artifact(folder, find_backend)


def compile_model(model: object, example_inputs: object, request: Request) -> Artifact:
    """`compile`, with everything that can be asked for."""
    started = time.perf_counter()
    budget = request.largest_drop()
    compilation, cache, key = _prepare(model, example_inputs, request)
    artifact = _from_cache(cache, key, compilation) if cache is not None else None
    fresh = artifact is None
    if artifact is None:
        artifact = compilation.run()
        artifact.report = artifact.report.model_copy(update={"cache": CacheEntry(hit=False, key=_name(key))})
    if request.metric is not None:
        request.progress("measuring accuracy")
        with compilation.stages("accuracy"):
            accuracy = _accuracy(request.metric, compilation, artifact, budget)
        artifact.report = artifact.report.model_copy(update={"accuracy": accuracy})
    compilation.stages.seconds["total"] = time.perf_counter() - started
    if fresh:
        artifact.report = artifact.report.model_copy(update={"seconds": compilation.stages.seconds})
    if request.output is not None:
        request.progress(f"writing {request.output}")
        artifact.save(request.output)
    if fresh and cache is not None:
        _keep(cache, key, artifact, request)
    return artifact


def explain_cache(model: object, example_inputs: object, request: Request) -> Explanation:
    """Whether compiling would be served from the cache, and what keeps the nearest entry from serving. Raises UsageError when there is no cache."""
    _, cache, key = _prepare(model, example_inputs, request)
    if cache is None:
        raise UsageError(
            "the cache is switched off (GRAPHWRIGHT_CACHE), or what is asked for cannot be kept: passes of your own have no fingerprint, "
            f"and models with more than {LARGEST_KEPT // 2**20} MiB of weights would fill it"
        )
    return cache.explain(key)


def _accuracy(metric: Metric, compilation: Compilation, artifact: Artifact, budget: Budget | None) -> AccuracyEntry:
    known = compilation.yardstick
    if isinstance(known, MetricYardstick):
        return accuracy_entry(known, known.measure(artifact.runner), budget)
    before = compilation.backend.baseline(compilation.source.model)
    try:
        return measure_accuracy(metric, before, artifact.runner, budget)
    finally:
        before.close()


@seldom_collecting()
def optimize_model(model: object, request: Request) -> Optimized:
    """`optimize` for any request."""
    target, backend = find_target(request.target), find_backend(request.target)
    steps = request.steps(target)
    request.progress("importing")
    source = import_model(model).model
    verifier = _verifier_or_none(source, backend, request)
    rewritten = clone_model(source)
    records = Manager(target, verifier, replay_home(), request.progress, each=False, fast_math=request.fast_math).run(rewritten, steps)
    return Optimized(rewritten, source, records, recipe(steps), verifier is not None)


def replay_home() -> Path:
    """Where replay folders of this process go: beside the cache, or in the temporary folder when there is none."""
    cache = open_cache()
    base = cache.folder / "replays" if cache is not None else Path(tempfile.gettempdir()) / "graphwright-replays"
    return base / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"


def _prepare(model: object, example_inputs: object, request: Request) -> tuple[Compilation, Cache | None, dict[str, str]]:
    """Check the request, import the model, and find the cache with the key of this compilation (None when it cannot serve)."""
    tuning = tuning_for(request.tuning)
    target, backend = find_target(request.target), find_backend(request.target, tuning)
    steps = request.steps(target)
    if request.dims and example_inputs is not None:
        raise UsageError("sizes of dimensions (--dim) are for made-up inputs; the example inputs have theirs already")
    if request.output is not None:
        probe(request.output)
        refuse_foreign(request.output)
    stages = Stages()
    request.progress("importing")
    with stages("import"):
        source, request = with_fixed_sizes(import_model(model, example_inputs), request, target)
        calibration = _calibration(request, source)
        given = source.samples if calibration is None or calibration.made_up else (*source.samples, *calibration.first(TOLD))
    compilation = Compilation(source, request, target, backend, replay_home(), stages, _label(model, source), given, calibration)
    cache = open_cache() if request.cache and request.repeatable and weight_bytes(source.model) <= LARGEST_KEPT else None
    key: dict[str, str] = {}
    if cache is not None:
        request.progress("hashing")
        with stages("hash"):
            options = {
                "search": request.level == 3,
                "precision": request.precision,
                "size": request.size,
                "allowance": request.allowance,
                "max_drop": request.max_drop if request.metric is None else None,
                "calibration": compilation.calibration.digest if compilation.calibration is not None else None,
                "dims": dict(request.dims),
                "seed": request.seed,
                "fast_math": request.fast_math,
                "tuning": tuning_state(tuning) if generates(request.target) else None,
            }
            key = components(source.model, given, f"{target.name} {target.hardware}".strip(), recipe(steps), options)
    return compilation, cache, key


def _label(model: object, source: Source) -> str:
    """What the report calls a model: its file, its class, or its graph."""
    if source.path is not None:
        return source.path.name
    if source.kind in ("module", "program"):
        return type(model).__name__
    return source.model.graph.name or source.kind


def _from_cache(cache: Cache, key: Mapping[str, str], compilation: Compilation) -> Artifact | None:
    """The artifact kept under a key, in the form the model asks for; None when there is none, or it is broken."""
    folder = cache.find(key)
    if folder is None:
        return None
    try:
        artifact = load(folder)
    except (ArtifactError, OSError):
        return None
    artifact.report = artifact.report.model_copy(update={"cache": CacheEntry(hit=True, key=_name(key))})
    return artifact.shaped_like(compilation.source.restore, compilation.source.arrange)


def _keep(cache: Cache, key: Mapping[str, str], artifact: Artifact, request: Request) -> None:
    """Put an artifact into the cache; what was just written is copied instead of being made again. The user's metric stays out."""
    plain = artifact.report if request.metric is None else artifact.report.model_copy(update={"accuracy": None})

    def save(folder: Path) -> None:
        with load(request.output) if request.output is not None else contextlib.nullcontext(artifact) as source:
            source.save(folder, plain)

    cache.put(key, artifact.report.model, save)


def _name(key: Mapping[str, str]) -> str:
    return name_of(key) if key else ""


def _calibration(request: Request, source: Source) -> CalibrationData | None:
    """The user's calibration data for the model that came in; None when there is none."""
    if request.calibration is None:
        return None
    return open_calibration(
        request.calibration, source.model, source.arrange, preprocess=request.preprocess, seed=request.seed, progress=request.progress
    )


def _verifier_or_none(model: ir.Model, backend: Backend, request: Request) -> Verifier | None:
    """A verifier on generated inputs, or None and a warning when the runtime cannot run the model."""
    try:
        runner = backend.reference(model)
        try:
            samples = generate(model, (), request.seed, runner.run)
            return Verifier(model, samples, backend, request.progress, runner)
        finally:
            runner.close()
    except (ModelError, TargetError, InputError) as error:
        warnings.warn(f"only the structure of the result was checked, not its numbers: {error}", GraphwrightWarning, stacklevel=4)
        return None
