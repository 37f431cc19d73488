"""Each command does what it says, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest

from graphwright.compiler.report import schema
from graphwright.tools.main import main

Capture = pytest.CaptureFixture[str]


def answer(capsys: Capture, *words: object, code: int = 0) -> object:
    """The JSON that a command prints."""
    assert main([*map(str, words), "--json"]) == code, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def text(capsys: Capture, *words: object, code: int = 0) -> str:
    """What a command prints for people."""
    assert main([*map(str, words)]) == code, capsys.readouterr().err
    return capsys.readouterr().out


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def changed(model: Path, find: str, replacement: str, name: str) -> Path:
    """A copy of a model with one operator replaced."""
    proto = onnx.load(model)
    next(node for node in proto.graph.node if node.op_type == find).op_type = replacement
    path = model.with_name(name)
    onnx.save(proto, path)
    return path


@pytest.mark.usefixtures("quick")
def test_compile_writes_an_artifact_and_reports_by_its_schema(model: Path, inputs: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    report = answer(capsys, "compile", model, "-o", out, "--inputs", inputs)
    jsonschema.validate(report, json.loads(schema()))
    assert report["shipped"] == "optimized" and report["verification"]["given"] == 1
    assert {"model.onnx", "manifest.json", "report.json", "report.html", "run.py"} <= {path.name for path in out.iterdir()}
    printed = text(capsys, "compile", model, "-o", out, "--inputs", inputs)
    assert "2.00x faster than the input" in printed and f"written to {out}" in printed and "cache     from" in printed
    assert "\x1b" not in printed


@pytest.mark.usefixtures("quick")
def test_compile_takes_a_metric_from_a_file(model: Path, inputs: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "metric.py").write_text(
        "import numpy as np\n"
        "runs = []\n"
        f"x = np.load({str(inputs)!r})['x']\n"
        "def mean(runner): return float(runner.run({'x': x})['y'].mean())\n"
        "def worse(runner): runs.append(1); return 1.0 / len(runs)\n"
        "number = 3\n"
    )
    report = answer(capsys, "compile", model, "--metric", f"{tmp_path / 'metric.py'}:mean", "--max-drop", "0.5%")
    assert report["accuracy"]["metric"] == "mean" and report["accuracy"]["before"] == pytest.approx(report["accuracy"]["after"], rel=1e-5)
    out = tmp_path / "out"
    assert main(["compile", str(model), "-o", str(out), "--metric", f"{tmp_path / 'metric.py'}:worse", "--max-drop", "0.1"]) == 1
    assert "worse fell from 1 to 0.5, by 0.5; 0.1 is allowed" in capsys.readouterr().err
    assert not out.exists()
    assert main(["compile", str(model), "--metric", f"{tmp_path / 'metric.py'}:number"]) == 2
    assert main(["compile", str(model), "--metric", f"{tmp_path / 'metric.py'}:nothing"]) == 2


@pytest.mark.usefixtures("quick")
def test_compile_runs_the_passes_asked_for(model: Path, capsys: Capture) -> None:
    assert answer(capsys, "compile", model, "--pipeline", "drop-no-ops")["recipe"] == "drop-no-ops"
    assert "raise" not in answer(capsys, "compile", model, "--without", "raise")["recipe"]
    assert answer(capsys, "compile", model, "--only", "drop-identity")["recipe"].split(",")[0] == "drop-no-ops{only=drop-identity}"
    assert "x [7, 4]" in answer(capsys, "compile", model, "--dim", "batch=7")["notes"][0]


def test_compile_of_a_broken_file_is_one_sentence(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    assert main(["compile", str(tmp_path / "bad.onnx"), "-o", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY"])
def test_inputs_that_cannot_be_read_are_one_sentence(model: Path, tmp_path: Path, capsys: Capture, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    assert main(["compile", str(model), "--inputs", str(tmp_path / "x.npz")]) == 1
    assert "x.npz' cannot be read as .npz" in capsys.readouterr().err


def test_an_array_without_a_name_is_no_input(model: Path, tmp_path: Path, capsys: Capture) -> None:
    np.save(tmp_path / "x.npy", np.ones(3))
    assert main(["compile", str(model), "--inputs", str(tmp_path / "x.npy")]) == 1
    assert "one array without a name" in capsys.readouterr().err


def test_optimize_writes_a_smaller_model_that_computes_the_same(model: Path, inputs: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "small.onnx"
    done = answer(capsys, "optimize", model, "-o", out)
    assert operators(out) == ["MatMul", "Gelu"]
    assert done["verified"] and done["files"] == [str(out)] and done["before"]["nodes"] > done["after"]["nodes"]
    x = np.load(inputs)["x"]
    before, after = (onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0] for path in (model, out))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)
    assert "7 -> 2 nodes" in text(capsys, "optimize", model, "-o", out)


def test_a_model_that_cannot_be_run_is_optimized_with_a_warning(tmp_path: Path, capsys: Capture) -> None:
    relu = '<ir_version: 10, opset_import: ["" : 21]> g (int16[2] x) => (int16[2] y) { a = Identity(x) y = Relu(a) }'
    onnx.save(onnx.parser.parse_model(relu), tmp_path / "m.onnx")
    assert main(["optimize", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "out.onnx")]) == 0
    assert capsys.readouterr().err.startswith("warning: only the structure of the result was checked, not its numbers: ")


def test_inspect_shows_what_a_model_is(model: Path, capsys: Capture) -> None:
    found = answer(capsys, "inspect", model)
    assert found["inputs"] == [{"name": "x", "type": "FLOAT", "shape": ["batch", 4], "overridable": False}]
    assert found["opsets"] == {"ai.onnx": 21} and found["nodes"] == 7 and found["operators"]["Mul"] == 2
    assert found["dimensions"] == {"batch": ["x[0]"]} and found["weight_bytes"] == 4 * 19 and found["weights"][0]["name"] == "w"
    printed = text(capsys, "inspect", model)
    for expected in ("7 nodes", "batch", "Mul 2", "ai.onnx 21"):
        assert expected in printed


@pytest.mark.usefixtures("quick")
def test_inspect_shows_what_an_artifact_is(model: Path, tmp_path: Path, capsys: Capture) -> None:
    text(capsys, "compile", model, "-o", tmp_path / "out")
    assert answer(capsys, "inspect", tmp_path / "out")["artifact"]["target"]["name"] == "ort-cpu"
    assert "artifact for ort-cpu" in text(capsys, "inspect", tmp_path / "out")


def test_diff_tells_rounding_from_other_numbers(model: Path, tmp_path: Path, capsys: Capture) -> None:
    text(capsys, "optimize", model, "-o", tmp_path / "small.onnx")
    found = answer(capsys, "diff", model, tmp_path / "small.onnx")
    assert found["same_numbers"] and not found["same_structure"] and found["operators"]["Gelu"] == [0, 1]
    assert "the same within rounding" in text(capsys, "diff", model, tmp_path / "small.onnx")
    assert "the same bits" in text(capsys, "diff", model, model, "--exact")
    other = changed(model, "Erf", "Tanh", "tanh.onnx")
    assert not answer(capsys, "diff", model, other, code=1)["same_numbers"]
    assert "different: " in text(capsys, "diff", model, other, code=1)


def test_diff_names_weights_and_ports_that_differ(model: Path, tmp_path: Path, capsys: Capture) -> None:
    proto = onnx.load(model)
    next(tensor for tensor in proto.graph.initializer if tensor.name == "half").float_data[0] = 0.25
    onnx.save(proto, tmp_path / "half.onnx")
    assert answer(capsys, "diff", model, tmp_path / "half.onnx", code=1)["weights"] == {"half": "other numbers"}
    proto.graph.input[0].name = proto.graph.node[0].input[0] = "image"
    onnx.save(proto, tmp_path / "named.onnx")
    found = answer(capsys, "diff", model, tmp_path / "named.onnx", code=1)
    assert found["signature"] == ["the input 'x' is only in the first", "the input 'image' is only in the second"] and found["numbers"] is None


def test_bench_times_models_and_artifacts_in_turns(model: Path, inputs: Path, tmp_path: Path, capsys: Capture) -> None:
    text(capsys, "optimize", model, "-o", tmp_path / "small.onnx")
    first, second = answer(capsys, "bench", model, tmp_path / "small.onnx", "--inputs", inputs, "--seconds", "0.2")
    assert first["ratio"] == 1.0 and 0 < second["low"] <= second["ratio"] <= second["high"] and second["rounds"] >= 6
    assert "95 % confidence" in text(capsys, "bench", model, tmp_path / "small.onnx", "--dim", "batch=3", "--seconds", "0.2")
    (alone,) = answer(capsys, "bench", model, "--seconds", "0.2")
    assert alone["median_ms"] > 0


def test_explain_tells_why_a_rule_did_not_fire(model: Path, tmp_path: Path, capsys: Capture) -> None:
    rule = next(rule["name"] for step in answer(capsys, "passes") if step["name"] == "raise" for rule in step["rules"] if "gelu" in rule["name"])
    assert answer(capsys, "explain", model, "--rule", rule)["fired"] == 1
    proto = onnx.load(model)
    next(tensor for tensor in proto.graph.initializer if tensor.name == "half").float_data[0] = 0.25
    onnx.save(proto, tmp_path / "quarter.onnx")
    found = answer(capsys, "explain", tmp_path / "quarter.onnx", "--rule", rule)
    assert found["fired"] == 0 and found["misses"] and found["misses"][0]["reason"]
    assert found["misses"][0]["reason"] in text(capsys, "explain", tmp_path / "quarter.onnx", "--rule", rule)
    assert main(["explain", str(model), "--rule", "no-such-rule"]) == 2
    assert main(["explain", str(model), "--rule", rule, "--level", "1"]) == 2
    assert "not part of this pipeline" in capsys.readouterr().err


def test_bisect_finds_the_first_value_that_differs(model: Path, tmp_path: Path, capsys: Capture) -> None:
    other = changed(model, "Erf", "Tanh", "tanh.onnx")
    found = answer(capsys, "bisect", model, other, code=1)["divergence"]
    assert found["output"] == "y" and found["value"] == "e"
    assert "'e'" in text(capsys, "bisect", model, other, code=1)
    assert answer(capsys, "bisect", model, model) == {"divergence": None}
    assert "the models agree" in text(capsys, "bisect", model, model)


def test_bisect_of_a_sound_pipeline_finds_nobody_to_blame(model: Path, capsys: Capture) -> None:
    assert answer(capsys, "bisect", model) == {"culprits": []}
    assert "every rewrite keeps its contract" in text(capsys, "bisect", model)


def test_replay_shows_a_fault_again(tmp_path: Path, capsys: Capture) -> None:
    import onnx_ir as ir

    from graphwright.compiler.core.drift import EXACT
    from graphwright.compiler.core.passes import Context, Pass
    from graphwright.compiler.driver import optimize_model
    from graphwright.compiler.request import Request

    class Negate(Pass):
        name, drift = "negate", EXACT

        def run(self, model: ir.Model, context: Context) -> int:
            relus = [node for node in model.graph if node.op_type == "Relu" and context.ledger.permit("relu-to-neg", node.outputs[0].name or "")]
            for node in relus:
                node.op_type = "Neg"
            return len(relus)

    proto = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]> g (float[3] x) => (float[3] y) { y = Relu(x) }')
    done = optimize_model(proto, Request(level=(Negate(),)))
    (undone,) = done.records[0].rolled_back
    assert undone.replay is not None
    assert "still there" in text(capsys, "replay", undone.replay, code=1)
    assert answer(capsys, "replay", undone.replay, code=1)["reproduced"]
    assert main(["replay", str(tmp_path)]) == 1
    assert "no replay folder" in capsys.readouterr().err


def test_passes_lists_passes_and_rules_with_equation_class_and_examples(capsys: Capture) -> None:
    listed = answer(capsys, "passes")
    rules = [rule for step in listed for rule in step["rules"]]
    assert {"raise", "fuse", "drop-no-ops"} <= {step["name"] for step in listed}
    assert rules and all(rule["equation"] and rule["class"] in ("exact", "reassociated", "domain", "lossy") and rule["examples"] for rule in rules)
    assert "drop-identity" in text(capsys, "passes")
    shown = text(capsys, "passes", "drop-identity")
    assert "fires on:" in shown and "leaves alone:" in shown
    assert answer(capsys, "passes", "drop-identity")["name"] == "drop-identity"
    ordered = [step["name"] for step in answer(capsys, "passes", "--level", "1")]
    assert "fuse" not in ordered and len(ordered) == len(set(ordered))


@pytest.mark.usefixtures("quick")
def test_cache_lists_explains_and_clears(model: Path, capsys: Capture) -> None:
    assert "miss: nothing is kept" in text(capsys, "cache", "explain", model)
    text(capsys, "compile", model)
    assert answer(capsys, "cache", "explain", model)["hit"]
    assert "recipe differs from" in text(capsys, "cache", "explain", model, "--level", "1")
    (entry,) = answer(capsys, "cache", "list")
    assert entry["model"] == "gelu.onnx" and entry["components"]["target"] == "ort-cpu"
    assert "1 artifacts" in text(capsys, "cache", "list")
    assert answer(capsys, "cache", "clear") == {"removed": 1}
    assert answer(capsys, "cache", "list") == []


def test_a_cache_that_is_off_says_so(model: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", "off")
    assert "switched off" in text(capsys, "cache", "list")
    assert main(["cache", "explain", str(model)]) == 2


MODULE = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 2)

    def forward(self, x):
        return {"y": torch.relu(self.linear(x))}

def with_inputs():
    torch.manual_seed(0)
    return Net().eval(), (torch.ones(3, 4),)

def broken():
    raise RuntimeError("no weights")
"""


def test_export_writes_a_torch_module_as_onnx(tmp_path: Path, capsys: Capture) -> None:
    torch = pytest.importorskip("torch")
    (tmp_path / "net.py").write_text(MODULE)
    out = tmp_path / "net.onnx"
    done = answer(capsys, "export", f"{tmp_path / 'net.py'}:with_inputs", "-o", out)
    assert done["files"] == [str(out)]
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    torch.manual_seed(0)
    namespace: dict[str, object] = {}
    exec(MODULE, namespace)
    module, (x,) = namespace["with_inputs"]()  # type: ignore[operator]
    expected = module(x)["y"].detach().numpy()
    np.testing.assert_allclose(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0], expected, rtol=1e-5, atol=1e-6)
    assert "nodes, opset" in text(capsys, "export", f"{tmp_path / 'net.py'}:with_inputs", "-o", out)


def test_a_module_file_that_fails_is_one_sentence(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("torch")
    (tmp_path / "net.py").write_text(MODULE)
    (tmp_path / "bad.py").write_text("1 / 0")
    for words, sentence in (
        (f"{tmp_path / 'net.py'}:broken", "failed: RuntimeError: no weights"),
        (f"{tmp_path / 'bad.py'}:net", "could not be run: ZeroDivisionError"),
        (f"{tmp_path / 'net.py'}:Nothing", "has no 'Nothing'"),
        (f"{tmp_path / 'net.py'}:Net", "needs example inputs"),
    ):
        assert main(["export", words, "-o", str(tmp_path / "x.onnx")]) in (1, 2)
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and sentence in captured.err
