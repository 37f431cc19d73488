"""Replay folders: everything needed to see again, on its own, what a rewrite did wrong.

before.onnx   the model before the pass (or, when that is large, the changed part before the rewrite)
after.onnx    the same after the rewrite; absent when the pass raised
inputs.npz    the inputs that showed it
replay.json   pass, rule, place, contract, difference, versions
change.txt    before | after in ONNX text, the operators that differ marked
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from .atomic import new_folder
from .core.backend import Sample
from .core.drift import Drift
from .core.errors import ArtifactError, ModelError, UsageError
from .core.graph import all_graphs, bind_opsets, clone_model
from .core.judge import Willing
from .core.ledger import Ledger
from .core.passes import Context, Pass, parse_pipeline
from .core.records import Difference
from .core.shapes import forget_ours
from .core.target import PORTABLE, Target
from .core.wellformed import check
from .denials import Denials
from .manifest import versions
from .npz import load_sample, save_sample
from .region import Change, expose, find_change
from .show import side_by_side
from .signature import check_signature
from .verify import References, Verifier

__all__ = ["Fault", "Replayed", "replay", "write_replay"]

LARGE_BYTES = 64 << 20
"""Of models with more weights only the changed part is kept."""
FORMAT = 1


@dataclass(frozen=True)
class Fault:
    """A rewrite that was undone. ``limit`` is how many rewrites the pass had made when it was the last (None: the whole pass was undone)."""

    step: str
    drift: str
    rule: str
    where: str
    limit: int | None
    denials: Denials
    reason: str
    difference: Difference | None = None
    target: Target = PORTABLE


@dataclass(frozen=True)
class Replayed:
    """What came of running a fault again. ``text`` shows the change, ``difference`` how far apart the outputs are now."""

    reproduced: bool
    reason: str
    difference: Difference | None = None
    text: str = ""


@dataclass
class _Only(Ledger):
    """Permits one rewrite and nothing else."""

    rule: str = ""
    where: str = ""

    def permit(self, rule: str, where: str) -> bool:
        """As `Ledger.permit`."""
        return (rule, where) == (self.rule, self.where) and super().permit(rule, where)


def write_replay(folder: Path, fault: Fault, before: ir.Model, good: ir.Model, bad: ir.Model | None, sample: Sample | None, backend: References | None) -> Path:
    """Write a replay folder; returns it.

    ``before`` is the model before the pass, ``good`` and ``bad`` are it without and with the rewrite (``bad`` is None when the pass raised).
    Raises ArtifactError when the folder cannot be written.
    """
    change = find_change(good, bad) if bad is not None else None
    large = _weight_bytes(before) > LARGE_BYTES
    piece = _cut(change, good, sample, backend) if large and change is not None else None
    with new_folder(folder) as place:
        if piece is not None and change is not None and bad is not None:
            _save(change.cut(good, piece), place / "before.onnx")
            _save(change.cut(bad, piece), place / "after.onnx")
            sample = piece
        elif not large:
            _save(clone_model(before), place / "before.onnx")
            if bad is not None:
                with contextlib.suppress(Exception):  # What the pass left may be too broken to write.
                    _save(bad, place / "after.onnx")
        entries = save_sample(place / "inputs.npz", sample) if sample is not None else None
        (place / "replay.json").write_text(json.dumps(_record(fault, entries, piece is not None), indent=2) + "\n", encoding="utf-8")
        (place / "change.txt").write_text(_headline(fault) + (side_by_side(change.before, change.after) if change else ""), encoding="utf-8")
    return folder


def _headline(fault: Fault) -> str:
    return f"{fault.rule or fault.step} at '{fault.where}' ({fault.drift}), in {fault.step}\n{fault.reason}\n\n"


def _record(fault: Fault, entries: object, piece: bool) -> dict[str, object]:
    return {
        "format": FORMAT,
        "graphwright": importlib.metadata.version("graphwright"),
        "versions": versions(),
        "pass": fault.step,
        "drift": fault.drift,
        "rule": fault.rule,
        "where": fault.where,
        "limit": fault.limit,
        "denied": sorted(map(list, fault.denials.rewrites)),
        "denied_rules": sorted(fault.denials.rules),
        "judged": fault.denials.judged,
        "target": {**dataclasses.asdict(fault.target), "kernels": sorted(fault.target.kernels)},
        "reason": fault.reason,
        "difference": _plain(fault.difference),
        "piece": piece,
        "inputs": entries,
    }


def _plain(difference: Difference | None) -> dict[str, object] | None:
    """JSON has no infinity: it is written as text."""
    if difference is None:
        return None
    found = dataclasses.asdict(difference)
    return {name: str(value) if isinstance(value, float) and abs(value) == float("inf") or value != value else value for name, value in found.items()}


def _cut(change: Change, good: ir.Model, sample: Sample | None, backend: References | None) -> Sample | None:
    """What flows into the changed part on the sample; None when that cannot be cut out and run."""
    if sample is None or backend is None or not change.outputs:
        return None
    try:
        runner = backend.reference(expose(good, change.inputs))
        try:
            found = list(runner.run(sample).values())
        finally:
            runner.close()
    except Exception:
        return None
    return dict(zip(change.inputs, found, strict=True))


def _weight_bytes(model: ir.Model) -> int:
    tensors = {id(value.const_value): value.const_value for graph in all_graphs(model) for value in graph.initializers.values()}
    return sum(tensor.nbytes for tensor in tensors.values() if tensor is not None)


def _save(model: ir.Model, path: Path) -> None:
    """One file, the weights in it; the model itself is used up."""
    forget_ours(model)
    ir.external_data.load_to_model(model)
    path.write_bytes(ir.to_proto(model).SerializeToString())


def replay(folder: Path, backend: References | None = None, step: Pass | None = None) -> Replayed:
    """Run the pass of a replay folder again, with and without the rewrite, and compare.

    ``step`` stands in for a pass that the text in the folder does not find (a user's own); without it such a folder is replayed by comparing
    before.onnx with after.onnx. Raises ArtifactError when the folder is none of ours.
    """
    record = _read(folder)
    backend = backend or _default_backend()
    sample = load_sample(folder / "inputs.npz", record["inputs"]) if record["inputs"] is not None else None  # type: ignore[arg-type]
    before = _load(folder / "before.onnx")
    if before is None:
        return Replayed(False, "the model was too large to keep, and its changed part could not be cut out; change.txt shows it", text=_text(folder))
    step = step or _pass_of(str(record["pass"]))
    if step is None:
        return _compare_files(folder, record, before, sample, backend)
    good, bad = _ledgers(record)
    try:
        one, two = _run(step, before, good, record), _run(step, before, bad, record)
    except Exception as error:
        return Replayed(True, f"{step.name} raises {type(error).__name__}: {error}", text=_text(folder))
    if not bad.entries and not _differ(one, two):
        return Replayed(False, f"{step.name} does not make this rewrite any more", text=_text(folder))
    return _judge(one, two, Drift(record["drift"]), sample, backend)


def _ledgers(record: dict[str, object]) -> tuple[Ledger, Ledger]:
    """Ledgers that let the pass run up to the rewrite, and with it."""
    if record["piece"]:
        return Ledger(limit=0), _Only(rule=str(record["rule"]), where=str(record["where"]))
    denials = Denials(frozenset((rule, where) for rule, where in record["denied"]), frozenset(record["denied_rules"]))  # type: ignore[attr-defined, call-overload]
    limit = record["limit"]
    if limit is None:
        return Ledger(limit=0), denials.ledger()
    return denials.ledger(int(limit) - 1), denials.ledger(int(limit))  # type: ignore[call-overload]


def _run(step: Pass, before: ir.Model, ledger: Ledger, record: dict[str, object]) -> ir.Model:
    model = clone_model(before)
    target = dict(record["target"])  # type: ignore[call-overload]
    # What the judge refused then is denied by the ledger.
    judge = Willing() if record.get("judged") else None
    step.run(model, Context(Target(**{**target, "kernels": frozenset(target["kernels"])}), ledger, judge=judge))
    return model


def _differ(one: ir.Model, two: ir.Model) -> bool:
    change = find_change(one, two)
    return bool(change.before or change.after)


def _compare_files(folder: Path, record: dict[str, object], before: ir.Model, sample: Sample | None, backend: References) -> Replayed:
    after = _load(folder / "after.onnx")
    if after is None:
        return Replayed(False, f"there is no pass '{record['pass']}' here, and it raised then; hand the pass over to run it again", text=_text(folder))
    return _judge(before, after, Drift(record["drift"]), sample, backend)


def _judge(good: ir.Model, bad: ir.Model, drift: Drift, sample: Sample | None, backend: References) -> Replayed:
    change = find_change(good, bad)
    text = side_by_side(change.before, change.after)
    try:
        check(bad)
        check_signature(good, bad, drift)
    except Exception as error:
        return Replayed(True, f"the graph is broken: {error}", text=text)
    if sample is None:
        return Replayed(False, "the graph is well formed", text=text)
    found = Verifier(good, [sample], backend).check(bad, drift)
    if found.broken:
        return Replayed(True, f"the contract ({drift.value}) is broken", found, text)
    return Replayed(False, f"the contract ({drift.value}) holds", found, text)


def _read(folder: Path) -> dict[str, object]:
    path = folder / "replay.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"'{folder}' is no replay folder: {error}") from None
    needed = {"format", "pass", "drift", "rule", "where", "limit", "denied", "denied_rules", "target", "piece", "inputs"}
    if not isinstance(record, dict) or not needed <= set(record) or record["format"] != FORMAT:
        raise ArtifactError(f"'{path}' was not written by this version of graphwright")
    return record


def _load(path: Path) -> ir.Model | None:
    if not path.is_file():
        return None
    try:
        model = ir.load(path)
    except Exception as error:
        raise ModelError(f"cannot read '{path}': {error}") from None
    bind_opsets(model)
    return model


def _pass_of(text: str) -> Pass | None:
    try:
        found: Sequence[Pass] = parse_pipeline(text)
    except (UsageError, TypeError):
        return None
    return found[0] if len(found) == 1 else None


def _text(folder: Path) -> str:
    path = folder / "change.txt"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _default_backend() -> References:
    from .targets import find_backend

    return find_backend("onnx")
