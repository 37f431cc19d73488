"""Weights in data files: mapped from the model's folder, and from nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper

from graphwright.compiler.core.errors import ModelError
from graphwright.compiler.importer import import_model
from graphwright.compiler.importers.external import HELD_FILES, FileTensor
from graphwright.compiler.serialize import to_bytes

WEIGHT = np.arange(600, dtype=np.float32)


def external(name: str, **entries: object) -> TensorProto:
    """A float[600] weight in a data file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[600], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def model_of(*weights: TensorProto) -> ModelProto:
    """x plus every weight."""
    names = ["x", *(weight.name for weight in weights)]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [600]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Sum", names, ["y"])], "net", ports[:1], ports[1:], weights)
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 19)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one weight in w.data, 64 bytes in."""
    inside = tmp_path / "model"
    inside.mkdir()
    (inside / "w.data").write_bytes(bytes(64) + WEIGHT.tobytes())
    return inside


def save(folder: Path, *weights: TensorProto) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model_of(*weights).SerializeToString())
    return path


def test_a_weight_is_mapped_from_where_the_model_says(folder: Path) -> None:
    tensor = import_model(save(folder, external("w", location="w.data", offset=64, length=2400))).model.graph.initializers["w"].const_value
    assert isinstance(tensor, FileTensor) and isinstance(tensor, ir.ExternalTensor)
    assert (tensor.begin, tensor.nbytes, Path(tensor.path)) == (64, 2400, folder / "w.data")
    np.testing.assert_array_equal(tensor.numpy(), WEIGHT)
    assert tensor.tobytes() == WEIGHT.tobytes() == b"".join(bytes(piece) for piece in tensor.chunks())
    assert not tensor.numpy().flags.writeable


def test_offset_and_length_may_be_left_out(folder: Path) -> None:
    WEIGHT.tofile(folder / "v.data")
    model = import_model(save(folder, external("v", location="v.data"))).model
    np.testing.assert_array_equal(model.graph.initializers["v"].const_value.numpy(), WEIGHT)


def test_a_hard_linked_data_file_is_as_good_as_any(folder: Path) -> None:
    os.link(folder / "w.data", folder / "linked.data")
    model = import_model(save(folder, external("w", location="linked.data", offset=64))).model
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), WEIGHT)


def test_a_link_to_another_file_of_the_folder_is_followed(folder: Path) -> None:
    (folder / "deeper").mkdir()
    (folder / "deeper" / "link.data").symlink_to(folder / "w.data")
    model = import_model(save(folder, external("w", location="deeper/link.data", offset=64))).model
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), WEIGHT)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "none.data"}, "the data file 'none.data' of the weight 'w' is missing"),
        ({"location": "w.data", "offset": 65}, "ends at byte 2,465 of 'w.data', which has only 2,464"),
        ({"location": "w.data", "length": 2396}, "takes 2,400 bytes .* but the model gives 2,396"),
        ({"location": "w.data", "offset": "many"}, "the offset of the external weight 'w' is 'many'"),
        ({"location": "w.data", "offset": -64}, "the offset of the external weight 'w' is '-64'"),
        ({"location": "w.data", "length": "9" * 30}, "the length of the external weight 'w'"),
        ({"location": "../secret"}, "outside the model's folder: that is refused"),
        ({"location": "a/../../secret"}, "outside the model's folder: that is refused"),
        ({"location": "/etc/passwd"}, "outside the model's folder: that is refused"),
        ({"location": "out.data"}, "is a link out of the model's folder"),
        ({"location": "away/secret"}, "is a link out of the model's folder"),
        ({"location": "loop.data"}, "link|cannot be read"),
        ({"location": "."}, "is not a file"),
        ({"location": "pipe"}, "is not a file"),
        ({"location": ""}, "does not say in which file"),
        ({"location": "*/_ORT_MEM_ADDR_/*", "offset": 94000000000000}, "is missing"),
        ({"location": "w.data/x"}, "cannot be read|missing"),
        ({}, "does not say in which file"),
    ],
)
def test_a_data_file_that_cannot_be_used_is_a_model_error(folder: Path, entries: dict[str, object], message: str) -> None:
    (folder.parent / "secret").write_bytes(bytes(4000))
    (folder / "out.data").symlink_to(folder.parent / "secret")
    (folder / "away").symlink_to(folder.parent)
    (folder / "loop.data").symlink_to(folder / "loop.data")
    os.mkfifo(folder / "pipe")
    with pytest.raises(ModelError, match=message):
        import_model(save(folder, external("w", **entries)))


def test_a_model_in_memory_has_no_folder_for_its_weights(folder: Path) -> None:
    proto = model_of(external("w", location="w.data", offset=64))
    for source in (proto, proto.SerializeToString()):
        with pytest.raises(ModelError, match="give the path of the .onnx file"):
            import_model(source)


def test_an_ir_model_keeps_its_weights_in_their_file(folder: Path) -> None:
    original = ir.load(save(folder, external("w", location="w.data", offset=64)))
    tensor = import_model(original).model.graph.initializers["w"].const_value
    assert isinstance(tensor, FileTensor)
    np.testing.assert_array_equal(tensor.numpy(), WEIGHT)


def test_an_ir_model_with_a_path_out_of_its_folder_is_refused(folder: Path) -> None:
    (folder.parent / "secret").write_bytes(bytes(4000))
    original = ir.load(save(folder, external("w", location="../secret")))
    with pytest.raises(ModelError, match="outside the model's folder"):
        import_model(original)


def test_weights_of_constants_and_branches_are_found_too(folder: Path) -> None:
    place = {"location": "w.data", "offset": 64}
    constant = helper.make_node("Constant", [], ["k"], value=external("k", **place))
    branches = [
        helper.make_graph(
            [helper.make_node("Add", ["x", "w"], ["a"])], "yes", [], [helper.make_tensor_value_info("a", TensorProto.FLOAT, [600])], [external("w", **place)]
        ),
        helper.make_graph([helper.make_node("Add", ["x", "k"], ["b"])], "no", [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, [600])]),
    ]
    model = model_of()
    del model.graph.node[:]
    model.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    model.graph.node.extend([constant, helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])])
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    session = ort.InferenceSession(to_bytes(import_model(folder / "m.onnx").model), providers=["CPUExecutionProvider"])
    for choice in (True, False):
        np.testing.assert_array_equal(session.run(None, {"x": WEIGHT, "c": np.array(choice)})[0], 2 * WEIGHT)


def test_small_weights_are_read_at_once(folder: Path) -> None:
    shape = TensorProto(name="to", data_type=TensorProto.INT64, dims=[2], data_location=TensorProto.EXTERNAL)
    shape.external_data.add(key="location", value="to.data")
    np.array([20, 30]).tofile(folder / "to.data")
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in (("x", [600]), ("y", [20, 30]))]
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "to"], ["y"])], "net", ports[:1], ports[1:], [shape])
    (folder / "m.onnx").write_bytes(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 19)]).SerializeToString())
    read = import_model(folder / "m.onnx").model.graph.initializers["to"].const_value
    assert not isinstance(read, ir.ExternalTensor)
    np.testing.assert_array_equal(read.numpy(), [20, 30])


def test_a_model_keeps_its_weights_when_their_file_is_replaced(folder: Path) -> None:
    tensor = import_model(save(folder, external("w", location="w.data", offset=64))).model.graph.initializers["w"].const_value
    assert tensor.is_unchanged()
    (folder / "new").write_bytes(bytes(64 + 2400))
    (folder / "new").replace(folder / "w.data")
    assert not tensor.is_unchanged()
    np.testing.assert_array_equal(tensor.numpy(), WEIGHT)
    assert tensor.tobytes() == WEIGHT.tobytes()


def test_a_data_file_cut_short_after_import_is_a_model_error(folder: Path) -> None:
    tensor = import_model(save(folder, external("w", location="w.data", offset=64))).model.graph.initializers["w"].const_value
    os.truncate(folder / "w.data", 1000)
    with pytest.raises(ModelError, match="ends at byte 1,000"):
        tensor.tobytes()


def test_more_files_than_can_be_held_open_are_opened_when_read(folder: Path) -> None:
    count = HELD_FILES + 20
    for index in range(count):
        (WEIGHT + index).tofile(folder / f"{index}.data")
    model = import_model(save(folder, *(external(f"w{index}", location=f"{index}.data") for index in range(count)))).model
    open_files = Path("/proc/self/fd")
    assert not open_files.exists() or len(list(open_files.iterdir())) < HELD_FILES + 100
    arrays = [model.graph.initializers[f"w{index}"].const_value.numpy() for index in range(count)]
    for index, array in enumerate(arrays):
        np.testing.assert_array_equal(array, WEIGHT + index)
    late = model.graph.initializers[f"w{count - 1}"].const_value
    (folder / "new").write_bytes(bytes(2400))
    (folder / "new").replace(folder / f"{count - 1}.data")
    with pytest.raises(ModelError, match="was replaced since the model was imported"):
        late.tobytes()


@pytest.mark.parametrize("dtype", ["INT4", "UINT4", "FLOAT16", "BFLOAT16", "BOOL", "FLOAT8E4M3FN", "INT2"])
def test_every_dtype_reads_from_a_file_as_it_does_inline(dtype: str, folder: Path) -> None:
    number = TensorProto.DataType.Value(dtype)
    raw = np.random.default_rng(0).integers(0, 2 if dtype == "BOOL" else 100, 4000, dtype=np.uint8).tobytes()
    bits = ir.DataType(number).bitwidth
    count = 3000 * 8 // bits - (1 if bits < 8 else 0)
    length = -(-count * bits // 8)
    (folder / "w.data").write_bytes(raw)
    outside = TensorProto(name="w", data_type=number, dims=[count], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="w.data")
    inside = TensorProto(name="w", data_type=number, dims=[count], raw_data=raw[:length])
    tensors = []
    for tensor in (outside, inside):
        model = model_of()
        model.graph.initializer.append(tensor)
        (folder / "m.onnx").write_bytes(model.SerializeToString())
        tensors.append(import_model(folder / "m.onnx").model.graph.initializers["w"].const_value)
    assert isinstance(tensors[0], FileTensor) and not isinstance(tensors[1], FileTensor)
    np.testing.assert_array_equal(tensors[0].numpy().view(np.uint8), tensors[1].numpy().view(np.uint8))
    assert tensors[0].tobytes() == tensors[1].tobytes()


def test_a_nan_in_a_data_file_is_noticed(folder: Path) -> None:
    values = WEIGHT.copy()
    values[599] = np.nan
    values.tofile(folder / "w.data")
    assert import_model(save(folder, external("w", location="w.data"))).warnings == ("weights hold NaN: 'w'",)


def test_an_empty_weight_needs_no_bytes(folder: Path) -> None:
    (folder / "e.data").touch()
    tensor = external("w", location="e.data")
    tensor.dims[0] = 0
    model = model_of()
    model.graph.initializer.append(tensor)
    (folder / "m.onnx").write_bytes(onnx.ModelProto.SerializeToString(model))
    assert import_model(folder / "m.onnx").model.graph.initializers["w"].const_value.numpy().shape == (0,)
