"""`graphwright bench methods`: the methods of quantisation on one model, from the user's file and data to a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..passes.quantize.activation import ActivationGrid
from ..passes.quantize.grid import Grid
from ..passes.quantize.joint import find_joint, joint_methods
from ..passes.quantize.method import find_method, methods
from ..passes.quantize.tied import untie
from .calibration.data import CalibrationData
from .calibration.engine import Engine
from .calibration.halves import split_data
from .calibration.opening import open_calibration
from .core.backend import Backend, Progress
from .core.errors import UsageError
from .driver import optimize_model
from .importer import Source, import_model
from .method_bench import MethodBench, Trial, benchable_sites
from .method_candidates import Candidate, JointCandidate, WeightCandidate
from .method_verdict import Line, Verdict, sum_up, verdicts
from .pipeline import BEFORE, CLEAN
from .request import Request, silent
from .targets import find_backend

__all__ = ["RAISED", "MethodRequest", "MethodTable", "bench_methods"]

RAISED = f"{BEFORE[2]},{CLEAN}"
"""The graph as compression meets it: standard operators, batch norms in their convolutions, nothing fused yet."""


@dataclass(frozen=True)
class MethodRequest:
    """What to try, and on which data.

    ``calibration`` is what methods are fitted on, and ``held_out`` what they are judged on; without it every fourth sample of ``calibration`` is kept back.
    ``bits`` are widths of the weight; ``inputs`` widths of the input, for methods that round both sides (none: only methods for weights). ``names`` are
    methods, all when empty; ``sites`` how many sites, evenly spread, all for None.
    """

    calibration: object
    held_out: object = None
    preprocess: str | Mapping[str, object] | None = None
    names: tuple[str, ...] = ()
    bits: tuple[int, ...] = (8, 4, 3, 2)
    inputs: tuple[int, ...] = ()
    block: int = 0
    symmetric: bool = True
    token: bool = False
    sites: int | None = None
    seed: int = 0
    progress: Progress = silent

    def candidates(self) -> tuple[Candidate, ...]:
        """The methods for weights, then those for both sides at each width of the input. Raises UsageError for a name that is neither."""
        known = {*methods(), *joint_methods()}
        unknown = [name for name in self.names if name not in known]
        if unknown:
            raise UsageError(f"there is no quantisation method '{unknown[0]}'; there are: {', '.join(sorted(known))}")
        weights = [WeightCandidate(find_method(name)) for name in methods() if not self.names or name in self.names]
        grids = [ActivationGrid(bits, token=self.token) for bits in self.inputs]
        joint = [JointCandidate(find_joint(name), grid) for grid in grids for name in joint_methods() if not self.names or name in self.names]
        return (*weights, *joint)


@dataclass(frozen=True)
class MethodTable:
    """What was found: every trial, a line for each method and width, and where a method beats what it refines. ``data`` describes the samples."""

    trials: tuple[Trial, ...]
    lines: tuple[Line, ...]
    verdicts: tuple[Verdict, ...]
    data: str


def bench_methods(model: object, request: MethodRequest, example_inputs: object = None) -> MethodTable:
    """Try the methods on the sites of a model. Raises UsageError when there is nothing to try or to try on, InputError for data that does not fit."""
    candidates = request.candidates()
    if not candidates:
        raise UsageError("these methods round inputs too: say to how many bits with --inputs-bits")
    source = import_model(model, example_inputs)
    backend = find_backend("ort-cpu")
    fit, judge = _data(source, request)
    raised = optimize_model(source.model, Request(target="onnx", level=RAISED, seed=request.seed, progress=request.progress)).model
    untie(raised)
    sites = benchable_sites(raised, request.sites)
    bench = MethodBench(candidates, request.bits, Grid(8, request.symmetric, request.block))
    engines = [_engine(data, backend, request) for data in (fit, judge)]
    trials = tuple(bench.run(raised, sites, engines[0], engines[1], request.progress))
    if not trials:
        raise UsageError("no site could be observed on the data: " + _why(engines))
    lines = sum_up(trials)
    return MethodTable(trials, tuple(lines), tuple(verdicts(lines)), f"{fit.describe()}; judged on {len(judge)} others")


def _data(source: Source, request: MethodRequest) -> tuple[CalibrationData, CalibrationData]:
    def opened(data: object) -> CalibrationData:
        return open_calibration(data, source.model, source.arrange, preprocess=request.preprocess, seed=request.seed, progress=request.progress)

    given = opened(request.calibration)
    return split_data(given) if request.held_out is None else (given, opened(request.held_out))


def _engine(data: CalibrationData, backend: Backend, request: MethodRequest) -> Engine:
    return Engine(data, backend, request.progress, seed=request.seed)


def _why(engines: Sequence[Engine]) -> str:
    reasons = {reason for engine in engines for reason in engine.unseen.values()}
    return "; ".join(sorted(reasons)) or "the model has none that ran"
