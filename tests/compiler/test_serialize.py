"""Models written out, and hashed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.parser import parse_model

from graphwright.compiler import serialize
from graphwright.compiler.core.errors import ArtifactError, ModelError
from graphwright.compiler.core.graph import all_graphs, make_constant
from graphwright.compiler.importer import import_model
from graphwright.compiler.importers.external import FileTensor
from graphwright.compiler.integrity import fingerprint, weights_digest
from graphwright.compiler.serialize import save_model, skeleton, to_bytes, to_proto

EVERYTHING = """<ir_version: 10, opset_import: ["" : 19, "my" : 1]> net (bool c, float[N, 2] x, seq(float[2]) q) => (float[N, 2] y, seq(float[2]) s)
<float[2] w = {3, 4}, string[2] t = {"a", "b"}> {
    k = Constant <value_ints = [1, -1]> ()
    m = Clip (x, , w0)
    w0 = Constant <value = float {5.0}> ()
    a = my.Twice <by = 3.0> (m)
    y = If (c) <then_branch = yes () => (float[N, 2] u) <float[2] v = {1, 2}> { u = Mul (a, v) }, else_branch = no () => (float[N, 2] o) { o = Add (a, w) }>
    s = SequenceInsert (q, w)
}
<domain: "my", opset_import: ["" : 19]> Twice <by, extra : float = 1.5> (v) => (r) { z = Constant <value_float : float = @by> ()  r = Mul (v, z) }"""


def big(count: int = 5000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count).astype(np.float32)


def sum_of(**weights: np.ndarray) -> ir.Model:
    """x plus every weight, all float[n]."""
    size = len(next(iter(weights.values())))
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [size]) for name in ("x", "y")]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph([helper.make_node("Sum", ["x", *weights], ["y"])], "net", ports[:1], ports[1:], tensors)
    return import_model(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 19)])).model


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(source: object, **feeds: np.ndarray) -> np.ndarray:
    content = source if isinstance(source, bytes) else str(source)
    return ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, feeds)[0]


def test_a_model_is_written_as_it_was_read() -> None:
    proto = parse_model(EVERYTHING)
    written = to_proto(import_model(proto).model)
    again = to_proto(import_model(written).model)
    assert written == again
    assert to_bytes(import_model(proto).model) == written.SerializeToString()
    onnx.checker.check_model(written)
    assert [info.name for info in written.graph.input] == ["c", "x", "q"] and [info.name for info in written.graph.output] == ["y", "s"]
    assert [info.type for info in written.graph.input] == [info.type for info in proto.graph.input]
    assert written.functions[0].attribute == ["by"] and written.functions[0].attribute_proto[0].f == 1.5
    assert written.functions[0].node[0].attribute[0].ref_attr_name == "by"
    clip = next(node for node in written.graph.node if node.op_type == "Clip")
    assert clip.input[1] == ""
    assert written.graph.initializer[1].string_data == [b"a", b"b"]


def test_metadata_survives() -> None:
    proto = parse_model(EVERYTHING)
    proto.producer_name, proto.model_version, proto.doc_string = "maker", 7, "a model"
    for owner in (proto, proto.graph, proto.graph.node[0]):
        owner.metadata_props.add(key="k", value="v")
    written = to_proto(import_model(proto).model)
    assert (written.producer_name, written.model_version, written.doc_string) == ("maker", 7, "a model")
    assert all(owner.metadata_props[0].value == "v" for owner in (written, written.graph, written.graph.node[0]))


def test_a_small_model_is_one_file(tmp_path: Path) -> None:
    written = save_model(sum_of(a=big()), tmp_path / "m.onnx")
    assert written == (tmp_path / "m.onnx",) and names_in(tmp_path) == ["m.onnx"]
    np.testing.assert_array_equal(run(tmp_path / "m.onnx", x=big(seed=1)), big() + big(seed=1))


def test_large_weights_go_into_a_data_file_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialize, "LARGEST_INLINE", 10_000)
    monkeypatch.setattr(serialize, "_PAGED", 15_000)
    model = sum_of(a=big(3000), b=big(3000, 1), c=big(3000, 2))
    make_constant(model.graph, big(10), "small")
    make_constant(model.graph, np.zeros(4000, np.float32), "paged")
    written = save_model(model, tmp_path / "m.onnx")
    assert written == (tmp_path / "m.onnx", tmp_path / "m.onnx.data") and names_in(tmp_path) == ["m.onnx", "m.onnx.data"]
    places = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in onnx.load(tmp_path / "m.onnx", load_external_data=False).graph.initializer
    }
    assert places["small"] == {}
    assert {places[name]["location"] for name in "abc"} == {"m.onnx.data"}
    assert all(int(places[name]["offset"]) % 64 == 0 for name in "abc") and int(places["paged"]["offset"]) % 65536 == 0
    np.testing.assert_array_equal(run(tmp_path / "m.onnx", x=big(3000, 3)), run(to_bytes(model), x=big(3000, 3)))


def test_a_weight_used_twice_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialize, "LARGEST_INLINE", 10_000)
    model = sum_of(a=big(), b=big())
    model.graph.initializers["b"].const_value = model.graph.initializers["a"].const_value
    save_model(model, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").stat().st_size == 20_000
    again = import_model(tmp_path / "m.onnx").model
    (tmp_path / "again").mkdir()
    save_model(again, tmp_path / "again" / "m.onnx")
    assert (tmp_path / "again" / "m.onnx.data").stat().st_size == 20_000
    np.testing.assert_array_equal(run(tmp_path / "again" / "m.onnx", x=big(seed=1)), big(seed=1) + big() + big())


def test_a_model_can_be_written_over_the_files_it_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialize, "LARGEST_INLINE", 10_000)
    save_model(sum_of(a=big(), b=big(seed=1)), tmp_path / "m.onnx")
    model = import_model(tmp_path / "m.onnx").model
    assert isinstance(model.graph.initializers["a"].const_value, FileTensor)
    first, second = (model.graph.initializers[name].const_value for name in "ab")
    model.graph.initializers["a"].const_value, model.graph.initializers["b"].const_value = second, first
    for _ in range(2):
        save_model(model, tmp_path / "m.onnx")
        again = import_model(tmp_path / "m.onnx").model
        np.testing.assert_array_equal(again.graph.initializers["a"].const_value.numpy(), big(seed=1))
        np.testing.assert_array_equal(again.graph.initializers["b"].const_value.numpy(), big())


def test_writing_leaves_the_model_and_its_tensors_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialize, "LARGEST_INLINE", 1000)
    model = sum_of(a=big())
    shared = ir.tensor(big(), name="mine")
    model.graph.initializers["a"].const_value = shared
    before = to_bytes(model)
    save_model(model, tmp_path / "m.onnx")
    skeleton(model)
    fingerprint(model)
    assert shared.name == "mine" and to_bytes(model) == before


def test_a_path_that_cannot_be_written_is_an_artifact_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot write .*No such file or directory"):
        save_model(sum_of(a=big()), tmp_path / "none" / "m.onnx")
    (tmp_path / "m.onnx").mkdir()
    with pytest.raises(ArtifactError, match="cannot write .*directory"):
        save_model(sum_of(a=big()), tmp_path / "m.onnx")
    assert names_in(tmp_path) == ["m.onnx"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialize, "LARGEST_INLINE", 1000)
    save_model(sum_of(a=big()), tmp_path / "m.onnx")
    before = {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)}
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *args, **named: opened(Path("/dev/full") if ".data." in path.name else path, *args, **named))
    with pytest.raises(ArtifactError, match="No space left"):
        save_model(sum_of(a=big(seed=1)), tmp_path / "m.onnx")
    assert {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)} == before


def test_a_model_with_more_weights_than_protobuf_takes_is_refused_in_memory(tmp_path: Path) -> None:
    with (tmp_path / "huge.data").open("wb") as file:
        file.truncate(2**31 + 4)
    tensor = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[2**31], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="huge.data")
    ports = [helper.make_tensor_value_info(name, TensorProto.UINT8, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "net", ports[:1], ports[1:], [tensor])
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 19)]).SerializeToString())
    with pytest.raises(ModelError, match="2.0 GiB of weights"):
        to_bytes(import_model(tmp_path / "m.onnx").model)


def test_file_tensors_are_copied_into_any_kind_of_file(tmp_path: Path) -> None:
    big().tofile(tmp_path / "w.data")
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[5000], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.data")
    model = sum_of(a=big())
    proto = to_proto(model)
    proto.graph.initializer[0].CopyFrom(tensor)
    proto.graph.initializer[0].name = "a"
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    weight = import_model(tmp_path / "m.onnx").model.graph.initializers["a"].const_value
    memory = io.BytesIO()
    with (tmp_path / "copy").open("wb") as file:
        for target in (file, memory):
            target.write(b"head")
            weight.tofile(target)
            target.write(b"tail")
    assert (tmp_path / "copy").read_bytes() == memory.getvalue() == b"head" + big().tobytes() + b"tail"


def test_a_skeleton_has_large_weights_as_inputs() -> None:
    model = sum_of(a=big(), b=big(5000))
    make_constant(model.graph, np.array([1, 2]), "shape")
    proto = skeleton(model)
    assert [info.name for info in proto.graph.input] == ["x", "a", "b"] and [tensor.name for tensor in proto.graph.initializer] == ["shape"]
    assert proto.ByteSize() < 2000
    onnx.checker.check_model(proto, full_check=True)
    assert [info.name for info in skeleton(model, max_inline=0).graph.input] == ["x", "a", "b", "shape"]


def test_a_skeleton_keeps_branches_and_constants_whole() -> None:
    numbers = ", ".join(map(str, range(400)))
    text = f"""<ir_version: 9, opset_import: ["" : 19]> net (bool c, float[400] x) => (float[400] y, float[400] k) {{
        k = Constant <value = float[400] {{{numbers}}}> ()
        y = If (c) <then_branch = yes () => (float[400] a) <float[400] v = {{{numbers}}}> {{ a = Add (x, v) }},
                    else_branch = no () => (float[400] v) <float[400] v = {{{numbers}}}> {{ }}>
    }}"""
    model = import_model(parse_model(text)).model
    proto = skeleton(model)
    assert len(proto.graph.input) == 5 and proto.ByteSize() < 1000
    onnx.checker.check_model(proto, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    assert [dim.dim_value for dim in inferred.graph.output[0].type.tensor_type.shape.dim] == [400]
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {info.name: np.arange(400, dtype=np.float32) for info in proto.graph.input if info.name != "c"}
    for choice in (True, False):
        for have, want in zip(
            session.run(None, feeds | {"c": np.array(choice)}),
            ort.InferenceSession(to_bytes(model)).run(None, {"c": np.array(choice), "x": feeds["x"]}),
            strict=True,
        ):
            np.testing.assert_array_equal(have, want)


def test_the_fingerprint_is_of_the_content_and_not_of_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialize, "LARGEST_INLINE", 1000)
    model = sum_of(a=big())
    save_model(model, tmp_path / "m.onnx")
    outside = import_model(tmp_path / "m.onnx").model
    assert isinstance(outside.graph.initializers["a"].const_value, FileTensor)
    assert fingerprint(outside) == fingerprint(model) and len(fingerprint(model)) == 64


def test_a_retrained_model_has_a_new_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialize, "LARGEST_INLINE", 1000)
    save_model(sum_of(a=big()), tmp_path / "m.onnx")
    graph_file = (tmp_path / "m.onnx").read_bytes()
    before = import_model(tmp_path / "m.onnx").model
    prints = fingerprint(before), weights_digest(before)
    save_model(sum_of(a=big(seed=1)), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == graph_file
    after = import_model(tmp_path / "m.onnx").model
    assert fingerprint(after) != prints[0] and weights_digest(after) != prints[1]
    assert (fingerprint(before), weights_digest(before)) == prints


@pytest.mark.parametrize("change", ["weight", "branch weight", "constant", "text", "attribute", "name", "shape", "function"])
def test_every_change_of_a_model_changes_its_fingerprint(change: str) -> None:
    model, same = (import_model(parse_model(EVERYTHING)).model for _ in range(2))
    assert fingerprint(model) == fingerprint(same)
    if change == "weight":
        model.graph.initializers["w"].const_value = ir.tensor(np.array([3, 5], np.float32), name="w")
    elif change == "branch weight":
        inner = next(graph for graph in all_graphs(model) if "v" in graph.initializers)
        inner.initializers["v"].const_value = ir.tensor(np.array([1, 3], np.float32), name="v")
    elif change == "constant":
        node = next(node for node in model.graph if node.op_type == "Constant" and "value" in node.attributes)
        node.attributes["value"] = ir.AttrTensor("value", ir.tensor(np.float32(6)))
    elif change == "text":
        model.graph.initializers["t"].const_value = ir.StringTensor([b"ab", b""], shape=ir.Shape([2]), name="t")
    elif change == "attribute":
        next(node for node in model.graph if node.op_type == "Twice").attributes["by"] = ir.AttrFloat32("by", 4.0)
    elif change == "name":
        model.graph.outputs[0].name = "other"
    elif change == "shape":
        model.graph.inputs[1].shape = ir.Shape(["M", 2])
    else:
        next(iter(next(iter(model.functions.values())))).attributes.pop("value_float")
    assert fingerprint(model) != fingerprint(same)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="measures with the resource module")
def test_a_model_of_3_gib_comes_in_goes_out_and_is_hashed_in_300_mib(tmp_path: Path) -> None:
    """Pages of mapped files count."""
    program = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        from graphwright.compiler.importer import import_model
        from graphwright.compiler.integrity import fingerprint
        from graphwright.compiler.serialize import save_model, skeleton
        folder = Path(sys.argv[1])
        model = import_model(folder / "m.onnx").model
        skeleton(model)
        save_model(model, folder / "out" / "m.onnx")
        fingerprint(model)
        total = sum(value.const_value.numpy()[::1000].sum() for value in model.graph.initializers.values())
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, float(total))
    """)
    count, size = 24, 2**25
    with (tmp_path / "m.data").open("wb") as file:
        for index in range(count):
            file.seek(index * size * 4)
            file.write(np.full(1, index, np.float32).tobytes())
        file.truncate(count * size * 4)
    weights = []
    for index in range(count):
        weight = TensorProto(name=f"w{index}", data_type=TensorProto.FLOAT, dims=[size], data_location=TensorProto.EXTERNAL)
        for key, value in (("location", "m.data"), ("offset", index * size * 4), ("length", size * 4)):
            weight.external_data.add(key=key, value=str(value))
        weights.append(weight)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [size]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Sum", ["x", *(weight.name for weight in weights)], ["y"])], "net", ports[:1], ports[1:], weights)
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 19)]).SerializeToString())
    (tmp_path / "out").mkdir()
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    peak, total = map(float, done.stdout.split())
    assert peak < 300 * 2**20 and total == sum(range(count))
    with (tmp_path / "out" / "m.onnx.data").open("rb") as file:
        for index in range(count):
            file.seek(index * size * 4)
            assert np.frombuffer(file.read(4), np.float32)[0] == index
        assert file.seek(0, os.SEEK_END) == count * size * 4
