"""A replay folder shows again, on its own, what a rewrite did wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler import replay as replaying
from graphwright.compiler.core.build import Build
from graphwright.compiler.core.drift import EXACT, ROUNDING, Drift
from graphwright.compiler.core.engine import apply_rules
from graphwright.compiler.core.errors import ArtifactError, InputError
from graphwright.compiler.core.graph import bind_opsets, clone_model, is_op, make_constant
from graphwright.compiler.core.ledger import Ledger
from graphwright.compiler.core.passes import Context, Pass, parse_pipeline
from graphwright.compiler.core.reasons import Skip, skip
from graphwright.compiler.core.rule import Match, rule
from graphwright.compiler.core.shapes import infer_shapes
from graphwright.compiler.core.target import PORTABLE
from graphwright.compiler.denials import Denials
from graphwright.compiler.manager import Manager
from graphwright.compiler.npz import load_sample, save_sample
from graphwright.compiler.replay import Fault, replay, write_replay
from graphwright.compiler.verify import Verifier


@dataclass(frozen=True)
class Double(Pass):
    """Writes every x + x as 2 x; where ``wrong`` says so as 2.5 x, or raises."""

    name: ClassVar[str] = "double"
    drift: ClassVar[Drift] = ROUNDING

    wrong: str = "s_2"
    how: str = "factor"

    def run(self, model: ir.Model, context: Context) -> int:
        done = 0
        for node in [node for node in model.graph if is_op(node, "Add") and node.inputs[0] is node.inputs[1]]:
            where = node.outputs[0].name or ""
            if not context.ledger.permit("double-one", where):
                continue
            bad = where == self.wrong
            if bad and self.how == "raise":
                raise ValueError("cannot double this")
            factor = make_constant(model.graph, np.array(2.5 if bad else 2.0, np.float32), f"factor_{where}")
            product = ir.node("Mul", [node.inputs[0], factor], name=f"product_{where}")
            product.outputs[0].type, product.outputs[0].shape = node.outputs[0].type, node.outputs[0].shape
            model.graph.insert_before(node, product)
            node.outputs[0].name, product.outputs[0].name = f"{where}_before", where
            node.outputs[0].replace_all_uses_with(product.outputs[0], replace_graph_outputs=True)
            model.graph.remove(node, safe=True)
            if bad and self.how == "dangle":
                product.replace_input_with(0, ir.Value(name="nowhere", type=ir.TensorType(ir.DataType.FLOAT)))
            done += 1
        return done


class Fixed(Double):
    """The same pass, mended."""

    def run(self, model: ir.Model, context: Context) -> int:
        return Double("").run(model, context)


def sums(weight: int = 4) -> ir.Model:
    """y = 2 (2 (2 (2 (x w)))), written as sums, with a Relu between; the weight is [4, weight]."""
    lines = "m = MatMul(x, w) s_0 = Add(m, m) r_0 = Relu(s_0) s_1 = Add(r_0, r_0) r_1 = Relu(s_1) s_2 = Add(r_1, r_1) r_2 = Relu(s_2) s_3 = Add(r_2, r_2)"
    model = ir.from_onnx_text(
        f'<ir_version: 9, opset_import: ["" : 18]> g (float[N,4] x, float[4,{weight}] w) => (float[N,{weight}] y) {{ {lines} y = Identity(s_3) }}'
    )
    value = model.graph.inputs[1]
    model.graph.inputs.remove(value)
    value.const_value = ir.tensor(np.random.default_rng(0).standard_normal((4, weight)).astype(np.float32), name="w")
    model.graph.register_initializer(value)
    bind_opsets(model)
    return model


def undone(folder: Path, step: Pass, model: ir.Model | None = None) -> Path:
    """Run the pass; the folder of the one rewrite that was undone."""
    model = model or sums()
    sample = {"x": np.abs(np.random.default_rng(1).standard_normal((3, 4))).astype(np.float32)}
    (record,) = Manager(PORTABLE, Verifier(model, [sample], OrtBackend()), folder).run(model, [step])
    (item,) = record.rolled_back
    assert (item.rule, item.where) == ("double-one", "s_2") and record.changes == 3
    return Path(item.replay or "")


def test_a_wrong_number_is_reproduced(tmp_path: Path) -> None:
    folder = undone(tmp_path, Double())
    found = replay(folder, step=Double())
    assert found.reproduced and found.difference is not None and found.difference.output == "y"
    assert found.difference.after == pytest.approx(found.difference.before * 1.25)


def test_the_change_is_shown_with_the_operators_that_differ_marked(tmp_path: Path) -> None:
    folder = undone(tmp_path, Double())
    text = (folder / "change.txt").read_text()
    (marked,) = [line for line in text.splitlines() if line.startswith("> s_2")]
    left, _, right = marked.partition("|")
    assert "s_2 = Add (r_1, r_1)" in left and right.strip().startswith("> s_2 = Mul (r_1, factor_s_2)")
    assert "s_1" not in text and "[2.5]" in text and "double-one at 's_2' (reassociated)" in text
    assert replay(folder, step=Double()).text.splitlines()[1:] == text.splitlines()[4:]


def twice(op, x):
    return op.Add(x, x)


@rule(twice, drift=ROUNDING, measured=True)
def double_measured(op: Build, m: Match):
    """x + x -> 2 x, and wrong for the third"""
    return op.Mul(m.x, 2.5 if m.outputs[0].name == "s_2" else 2.0)


@dataclass(frozen=True)
class Measured(Pass):
    """A pass that asks a judge."""

    name: ClassVar[str] = "measured"
    drift: ClassVar[Drift] = ROUNDING

    def run(self, model: ir.Model, context: Context) -> int:
        return apply_rules(model, [double_measured], context)


class AgainstTheFirst:
    """A judge that refuses one place."""

    def refusal(self, rule: str, before: ir.Model, after: ir.Model, doubtful: bool) -> Skip | None:
        return skip("it is slow") if before.graph.name == "s_0" else None


def test_what_a_judge_refused_is_refused_again(tmp_path: Path) -> None:
    model = sums()
    infer_shapes(model)
    sample = {"x": np.abs(np.random.default_rng(1).standard_normal((3, 4))).astype(np.float32)}
    manager = Manager(PORTABLE, Verifier(model, [sample], OrtBackend()), tmp_path, judge=AgainstTheFirst())
    (record,) = manager.run(clone_model(model), [Measured()])
    (item,) = record.rolled_back
    assert item.where == "s_2" and record.changes == 2
    assert json.loads((Path(item.replay or "") / "replay.json").read_text())["denied"] == [["double-measured", "s_0"]]
    assert replay(Path(item.replay or ""), step=Measured()).reproduced


def test_what_was_mended_is_not_reproduced(tmp_path: Path) -> None:
    found = replay(undone(tmp_path, Double()), step=Fixed())
    assert not found.reproduced and "holds" in found.reason


def test_a_rewrite_that_is_not_made_any_more_is_named(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Idle(Double):
        def run(self, model: ir.Model, context: Context) -> int:
            return 0

    found = replay(undone(tmp_path, Double()), step=Idle())
    assert not found.reproduced and "any more" in found.reason


@pytest.mark.parametrize(("how", "expected"), [("raise", "cannot double this"), ("dangle", "'nowhere'")])
def test_other_kinds_of_fault_are_reproduced(tmp_path: Path, how: str, expected: str) -> None:
    folder = undone(tmp_path, Double(how=how))
    found = replay(folder, step=Double(how=how))
    assert found.reproduced and expected in found.reason
    assert (folder / "after.onnx").exists() is (how != "raise")
    assert not replay(folder, step=Fixed()).reproduced


def test_without_the_pass_the_two_files_are_compared(tmp_path: Path) -> None:
    found = replay(undone(tmp_path, Double()))
    assert found.reproduced and found.difference is not None and found.difference.broken
    assert "hand the pass over" in replay(undone(tmp_path / "other", Double(how="raise"))).reason


def test_of_a_large_model_only_the_changed_part_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "LARGE_BYTES", 1000)
    folder = undone(tmp_path, Double(), sums(300))
    piece = ir.load(folder / "before.onnx")
    assert [node.op_type for node in piece.graph] == ["Add"] and (folder / "before.onnx").stat().st_size < 1000
    assert json.loads((folder / "replay.json").read_text())["piece"] is True
    for found in (replay(folder), replay(folder, step=Double())):
        assert found.reproduced and found.difference is not None and found.difference.output == "s_2"
    assert not replay(folder, step=Fixed()).reproduced


def test_the_record_says_which_pass_which_contract_and_which_versions(tmp_path: Path) -> None:
    record = json.loads((undone(tmp_path, Double()) / "replay.json").read_text())
    assert (record["pass"], record["drift"], record["rule"], record["where"], record["limit"]) == ("double", "reassociated", "double-one", "s_2", 3)
    assert record["difference"]["broken"] is True and "onnxruntime" in record["versions"]


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', '{"format": 99}'])
def test_a_folder_of_another_kind_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(ArtifactError, match="no replay folder"):
        replay(tmp_path / "missing")
    (tmp_path / "replay.json").write_text(content)
    with pytest.raises(ArtifactError):
        replay(tmp_path)


def test_external_weights_are_kept_inside_the_folder(tmp_path: Path) -> None:
    ir.save(sums(), tmp_path / "model.onnx", external_data="model.data", size_threshold_bytes=0)
    model = ir.load(tmp_path / "model.onnx")
    bind_opsets(model)
    folder = undone(tmp_path / "replays", Double(), model)
    (tmp_path / "model.data").unlink()
    assert replay(folder, step=Double()).reproduced


def test_a_pass_is_found_by_its_name_and_options(tmp_path: Path) -> None:
    model = ir.from_onnx_text('<ir_version: 9, opset_import: ["" : 18]> g (float[N] x) => (float[N] y) { i = Identity(x) j = Identity(i) y = Neg(j) }')
    bind_opsets(model)
    (step,) = parse_pipeline("drop-no-ops")
    ledger, after = Ledger(), clone_model(model)
    assert step.run(after, Context(ledger=ledger)) == 2
    entry = ledger.entries[0]
    fault = Fault("drop-no-ops", "exact", entry.rule, entry.where, 1, Denials(), "somebody doubted it", target=PORTABLE)
    write_replay(tmp_path / "one", fault, model, model, after, {"x": np.float32([1, np.nan])}, None)
    found = replay(tmp_path / "one")
    assert not found.reproduced and "(exact) holds" in found.reason and "> i = Identity (x)" in found.text


def test_an_exact_pass_is_replayed_exactly(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Exactly(Double):
        name: ClassVar[str] = "double-exactly"
        drift: ClassVar[Drift] = EXACT

    folder = undone(tmp_path, Exactly())
    found = replay(folder, step=Exactly())
    assert found.reproduced and found.difference is not None and found.difference.allowed == 0


def test_samples_of_any_kind_survive_the_file(tmp_path: Path) -> None:
    sample = {
        "a/b:0": np.float32([[1, np.nan], [-0.0, np.inf]]),
        "half": np.array([1.5, 2], ml_dtypes.bfloat16),
        "tiny": np.array([1.5, 2], ml_dtypes.float8_e4m3fn),
        "text": np.array([["x", "ü"]], object),
        "flag": np.array(True),
        "many": [np.int64([1]), np.int64([2, 3])],
        "none": None,
        "empty": np.zeros((0, 3), np.int8),
    }
    entries = json.loads(json.dumps(save_sample(tmp_path / "s.npz", sample)))
    back = load_sample(tmp_path / "s.npz", entries)
    assert list(back) == list(sample) and back["none"] is None
    for name, value in sample.items():
        for one, two in zip(value if isinstance(value, list) else [value], back[name] if isinstance(back[name], list) else [back[name]], strict=True):
            if one is not None:
                assert one.dtype == two.dtype and one.shape == two.shape and one.tolist().__repr__() == two.tolist().__repr__()
    with pytest.raises(InputError):
        load_sample(tmp_path / "other.npz", entries)


def test_a_model_is_not_changed_by_writing_its_replay(tmp_path: Path) -> None:
    model = sums()
    before = ir.to_onnx_text(clone_model(model))
    sample = {"x": np.ones((2, 4), np.float32)}
    Manager(PORTABLE, Verifier(model, [sample], OrtBackend()), tmp_path).run(clone_model(model), [Double()])
    assert ir.to_onnx_text(model) == before
