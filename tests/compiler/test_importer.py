"""ONNX models in every form, and what import makes of what they leave unsaid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.parser import parse_model

from graphwright.compiler.core.errors import InputError, ModelError, UsageError
from graphwright.compiler.core.graph import all_graphs, constant
from graphwright.compiler.importer import Source, import_model
from graphwright.compiler.serialize import to_bytes

X = np.array([-1.0, 2.0], np.float32)
SCALE = """<ir_version: 9, opset_import: ["" : 19]> net (float[2] x) => (float[2] y) <float[2] w = {3, 4}> { a = Mul (x, w)  y = Relu (a) }"""
CHOICE = """<ir_version: 9, opset_import: ["" : 19]> net (bool c, float[2] x) => (float[2] y) <float[2] w = {{3, 4}}> {{
    y = If (c) <then_branch = yes () => ({yes}) {{ {body} }}, else_branch = no () => (float[2] b) {{ b = Neg (x) }}>
}}"""


def answers(model: ir.Model | bytes, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What ONNX Runtime makes of it, optimisations off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = model if isinstance(model, bytes) else to_bytes(model)
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(None, dict(feeds))


def expect(source: Source, feeds: Mapping[str, np.ndarray], *wanted: object) -> None:
    """The imported model answers with exactly these arrays."""
    got = answers(source.model, feeds)
    assert len(got) == len(wanted)
    for have, want in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(have, np.asarray(want))


def make(
    nodes: list[onnx.NodeProto], inits: list[TensorProto] = (), *, ir_version: int = 9, inputs: tuple[str, ...] = ("x",), opsets: tuple = (("", 19),)
) -> onnx.ModelProto:
    """A model of float[2] values with the output y."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in (*inputs, "y")]
    graph = helper.make_graph(nodes, "net", ports[:-1], ports[-1:], inits)
    return helper.make_model(graph, ir_version=ir_version, opset_imports=[helper.make_opsetid(*entry) for entry in opsets])


@pytest.mark.parametrize("kind", ["path", "bytes", "proto", "ir", "graphsurgeon"])
def test_every_form_of_a_model_comes_in_as_the_same_graph(kind: str, tmp_path: Path) -> None:
    proto = parse_model(SCALE)
    source: object = proto
    if kind == "path":
        onnx.save(proto, tmp_path / "m.onnx")
        source = tmp_path / "m.onnx"
    elif kind == "bytes":
        source = proto.SerializeToString()
    elif kind == "ir":
        source = ir.from_proto(proto)
    elif kind == "graphsurgeon":
        source = pytest.importorskip("onnx_graphsurgeon").import_onnx(proto)
    imported = import_model(source)
    assert imported.kind == kind
    assert imported.path == (tmp_path / "m.onnx" if kind == "path" else None)
    expect(imported, {"x": X}, [0, 8])


def test_a_path_may_be_a_string(tmp_path: Path) -> None:
    onnx.save(parse_model(SCALE), tmp_path / "m.onnx")
    expect(import_model(str(tmp_path / "m.onnx")), {"x": X}, [0, 8])


def test_what_the_caller_handed_in_is_not_changed() -> None:
    proto = parse_model(SCALE)
    model = ir.from_proto(parse_model(SCALE))
    before = proto.SerializeToString(), ir.to_proto(model).SerializeToString()
    for source in (proto, model):
        imported = import_model(source).model
        for graph in all_graphs(imported):
            for value in list(graph.initializers.values()):
                value.name = "renamed"
            for node in list(graph):
                node.name = "changed"
        to_bytes(imported)
    assert (proto.SerializeToString(), ir.to_proto(model).SerializeToString()) == before


def test_a_surgeon_graph_is_not_changed() -> None:
    gs = pytest.importorskip("onnx_graphsurgeon")
    graph = gs.import_onnx(parse_model(SCALE))
    before = gs.export_onnx(graph).SerializeToString()
    imported = import_model(graph).model
    imported.graph.initializers["w"].name = "renamed"
    assert gs.export_onnx(graph).SerializeToString() == before


def test_a_changed_proto_does_not_reach_the_imported_model() -> None:
    proto = parse_model(SCALE)
    imported = import_model(proto)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros(2, np.float32), "w"))
    expect(imported, {"x": X}, [0, 8])


def test_something_else_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="a list is not a model"):
        import_model([1, 2])


def test_dynamic_shapes_are_for_torch_modules() -> None:
    with pytest.raises(UsageError, match="only a torch module"):
        import_model(parse_model(SCALE), dynamic_shapes={"x": {0: "n"}})


def test_before_ir_version_4_initialisers_are_constants_though_listed_as_inputs() -> None:
    w = numpy_helper.from_array(np.array([3, 4], np.float32), "w")
    source = import_model(make([helper.make_node("Mul", ["x", "w"], ["y"])], [w], ir_version=3, inputs=("x", "w"), opsets=(("", 8),)))
    assert [value.name for value in source.model.graph.inputs] == ["x"]
    assert constant(source.model.graph.initializers["w"]) is not None
    assert source.model.ir_version >= 4
    expect(source, {"x": X}, [-3, 8])


def test_from_ir_version_4_on_an_initialiser_that_is_an_input_may_be_overridden() -> None:
    w = numpy_helper.from_array(np.array([3, 4], np.float32), "w")
    source = import_model(make([helper.make_node("Mul", ["x", "w"], ["y"])], [w], inputs=("x", "w")))
    assert [value.name for value in source.model.graph.inputs] == ["x", "w"]
    assert constant(source.model.graph.initializers["w"]) is None
    expect(source, {"x": X}, [-3, 8])
    expect(source, {"x": X, "w": X}, [1, 4])


def test_without_any_import_the_oldest_files_mean_version_1() -> None:
    model = make([helper.make_node("Relu", ["x"], ["y"])], ir_version=2, opsets=())
    del model.opset_import[:]
    assert import_model(model).model.opset_imports[""] == 1


def test_a_missing_default_import_means_what_onnx_runtime_takes_it_for() -> None:
    scaled = helper.make_node("Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=[1.0], scale=[2.0])
    model = make([scaled, helper.make_node("Relu", ["s"], ["y"])], opsets=(("ai.onnx.ml", 3),))
    source = import_model(model)
    assert source.model.opset_imports[""] == onnx.defs.onnx_opset_version()
    np.testing.assert_array_equal(answers(source.model, {"x": X})[0], answers(model.SerializeToString(), {"x": X})[0])


def test_a_model_without_standard_operators_gets_a_default_import_for_those_to_come() -> None:
    scaled = helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[1.0], scale=[2.0])
    source = import_model(make([scaled], opsets=(("ai.onnx.ml", 3),)))
    assert source.model.opset_imports == {"ai.onnx.ml": 3, "": 21}


def test_a_runtime_operator_may_be_used_without_an_import() -> None:
    source = import_model(make([helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")]))
    assert source.model.opset_imports["com.microsoft"] == 1
    assert answers(source.model, {"x": X})[0].shape == (2,)


def test_the_default_domain_has_one_spelling() -> None:
    source = import_model(make([helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx")], opsets=(("ai.onnx", 17),)))
    assert source.model.opset_imports == {"": 17}
    assert [node.domain for node in source.model.graph] == [""]


def test_subgraphs_know_the_opsets_of_their_model() -> None:
    source = import_model(parse_model(CHOICE.format(yes="float[2] a", body="a = Add (x, w)")))
    assert all(graph.opset_imports == {"": 19} for graph in all_graphs(source.model))


def test_outputs_that_are_an_input_an_initialiser_or_given_twice_survive() -> None:
    model = make([helper.make_node("Relu", ["x"], ["y"])], [numpy_helper.from_array(np.array([3, 4], np.float32), "w")])
    for name in ("x", "w", "y"):
        model.graph.output.add().CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]))
    source = import_model(model)
    assert [value.name for value in source.model.graph.outputs] == ["y", "x", "w", "y"]
    expect(source, {"x": X}, [0, 2], X, [3, 4], [0, 2])


@pytest.mark.parametrize(("name", "wanted"), [("x", X), ("w", [3, 4])])
def test_a_branch_may_give_out_a_value_of_the_graph_around_it(name: str, wanted: object) -> None:
    source = import_model(parse_model(CHOICE.format(yes=f"float[2] {name}", body="")))
    expect(source, {"x": X, "c": np.array(True)}, wanted)
    expect(source, {"x": X, "c": np.array(False)}, -X)


def test_a_loop_may_pass_its_inputs_through() -> None:
    text = """<ir_version: 9, opset_import: ["" : 19]> net (int64 n, bool c, float[2] x) => (float[2] y) {
        y = Loop (n, c, x) <body = step (int64 i, bool go, float[2] s) => (bool go, float[2] s) { }>
    }"""
    expect(import_model(parse_model(text)), {"n": np.array(2), "c": np.array(True), "x": X}, X)


def test_names_are_unique_over_the_whole_model_and_keep_their_meaning() -> None:
    text = """<ir_version: 9, opset_import: ["" : 19]> net (bool c, float[2] x) => (float[2] y, float[2] a) {
        y = If (c) <then_branch = yes () => (float[2] a) <float[2] x = {7, 8}> { a = Neg (x) }, else_branch = no () => (float[2] a) { a = Abs (x) }>
        a = Relu (x)
    }"""
    source = import_model(parse_model(text))
    names = [
        value.name
        for graph in all_graphs(source.model)
        for value in (*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs))
    ]
    assert len(names) == len(set(names))
    assert [value.name for value in source.model.graph.outputs] == ["y", "a"]
    expect(source, {"x": X, "c": np.array(True)}, [-7, -8], [0, 2])
    expect(source, {"x": X, "c": np.array(False)}, [1, 2], [0, 2])


def test_every_node_gets_a_name_of_its_own() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"], name="n"), helper.make_node("Neg", ["a"], ["b"], name="n"), helper.make_node("Abs", ["b"], ["y"])]
    names = [node.name for node in import_model(make(nodes)).model.graph]
    assert names[0] == "n" and all(names) and len(set(names)) == 3


def test_nodes_out_of_order_are_sorted() -> None:
    nodes = [helper.make_node("Neg", ["a"], ["y"]), helper.make_node("Relu", ["x"], ["a"])]
    source = import_model(make(nodes))
    assert [node.op_type for node in source.model.graph] == ["Relu", "Neg"]
    expect(source, {"x": X}, [-0.0, -2])


def test_nodes_in_order_keep_it() -> None:
    nodes = [helper.make_node("Abs", ["x"], ["b"]), helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Add", ["a", "b"], ["y"])]
    assert [node.op_type for node in import_model(make(nodes)).model.graph] == ["Abs", "Relu", "Add"]


def test_shapes_noted_between_nodes_are_forgotten_but_for_foreign_operators() -> None:
    model = make(
        [helper.make_node("Gelu", ["x"], ["a"], domain="com.microsoft"), helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Neg", ["b"], ["y"])]
    )
    for name, size in (("a", 2), ("b", 7)):
        model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [size]))
    values = {value.name: value for node in import_model(model).model.graph for value in node.outputs}
    assert values["a"].shape == ir.Shape([2]) and values["a"].dtype == ir.DataType.FLOAT
    assert values["b"].shape is None


def test_a_wrong_declared_output_shape_does_not_matter() -> None:
    model = make([helper.make_node("Relu", ["x"], ["y"])])
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [5, 1]))
    expect(import_model(model), {"x": X}, [0, 2])


@pytest.mark.parametrize("dim", [-1, "?", "", None])
def test_a_negative_or_nameless_dimension_is_an_unknown_one(dim: object) -> None:
    model = make([helper.make_node("Relu", ["x"], ["y"])])
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, [dim]))
    shape = import_model(model).model.graph.inputs[0].shape
    assert [item.value for item in shape] == [None]


def test_an_input_without_a_shape_stays_without() -> None:
    model = make([helper.make_node("Relu", ["x"], ["y"])])
    model.graph.input[0].type.tensor_type.ClearField("shape")
    assert import_model(model).model.graph.inputs[0].shape is None


def test_sparse_initialisers_and_constants_are_written_out() -> None:
    def sparse(name: str) -> onnx.SparseTensorProto:
        values = numpy_helper.from_array(np.array([5], np.float32), name)
        return helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([1], np.int64), "i"), [2])

    nodes = [
        helper.make_node("Constant", [], ["k"], sparse_value=sparse("k")),
        helper.make_node("Add", ["x", "s"], ["a"]),
        helper.make_node("Add", ["a", "k"], ["y"]),
    ]
    model = make(nodes)
    model.graph.sparse_initializer.append(sparse("s"))
    expect(import_model(model), {"x": X}, [-1, 12])


@pytest.mark.parametrize(
    "dtype", ["FLOAT", "DOUBLE", "INT64", "INT32", "UINT8", "INT8", "BOOL", "FLOAT16", "BFLOAT16", "UINT64", "UINT32", "COMPLEX64", "INT4", "FLOAT8E4M3FN"]
)
def test_typed_data_becomes_the_same_raw_data(dtype: str) -> None:
    number = TensorProto.DataType.Value(dtype)
    tensor = helper.make_tensor("w", number, [3], [1, 0, 1])
    assert not tensor.HasField("raw_data")
    wanted = numpy_helper.to_array(tensor)
    model = make([helper.make_node("Relu", ["x"], ["y"])], [tensor])
    read = import_model(model).model.graph.initializers["w"].const_value
    assert read.dtype.name == dtype and len(read.tobytes()) == read.nbytes
    np.testing.assert_array_equal(read.numpy().astype(np.complex64), wanted.astype(np.complex64))


def test_texts_stay_texts() -> None:
    graph = helper.make_graph([helper.make_node("Identity", ["t"], ["y"])], "net", [], [helper.make_tensor_value_info("y", TensorProto.STRING, [2])])
    graph.initializer.append(TensorProto(name="t", data_type=TensorProto.STRING, dims=[2], string_data=[b"one", b"two\xff\0"]))
    source = import_model(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 19)]))
    assert list(source.model.graph.initializers["t"].const_value.string_data()) == [b"one", b"two\xff\0"]
    assert onnx.ModelProto.FromString(to_bytes(source.model)).graph.initializer[0].string_data == [b"one", b"two\xff\0"]


def test_weights_with_nan_come_in_with_a_warning() -> None:
    for dtype in (np.float32, np.float64, np.float16):
        w = numpy_helper.from_array(np.array([1, np.nan], dtype), "w")
        clean = numpy_helper.from_array(np.array([np.inf, -np.inf], dtype), "v")
        source = import_model(make([helper.make_node("Relu", ["x"], ["y"])], [w, clean]))
        assert source.warnings == ("weights hold NaN: 'w'",)


def test_functions_stay_functions() -> None:
    text = """<ir_version: 9, opset_import: ["" : 19, "my" : 1]> net (float[2] x) => (float[2] y) { y = my.Twice <by = 3.0> (x) }
    <domain: "my", opset_import: ["" : 19]> Twice <by> (v) => (r) { s = Constant <value_float : float = @by> ()  r = Mul (v, s) }"""
    source = import_model(parse_model(text))
    assert len(source.model.functions) == 1
    expect(source, {"x": X}, [-3, 6])


def test_a_function_without_imports_reads_as_its_model() -> None:
    text = """<ir_version: 9, opset_import: ["" : 19, "my" : 1]> net (float[2] x) => (float[2] y) { y = my.Flip (x) }
    <domain: "my", opset_import: ["" : 19]> Flip (v) => (r) { r = Neg (v) }"""
    model = parse_model(text)
    del model.functions[0].opset_import[:]
    expect(import_model(model), {"x": X}, -X)


def test_samples_are_taken_by_name_in_order_or_several_at_once() -> None:
    text = """<ir_version: 9, opset_import: ["" : 19]> net (float[N] a, int64[N] b) => (float[N] y) { c = Cast <to = 1> (b)  y = Add (a, c) }"""
    model, b = parse_model(text), np.array([1, 2])
    for examples in ({"a": X, "b": b}, (X, b), [(X, b)], [{"b": b, "a": X}], ([-1.0, 2.0], [1, 2])):
        (sample,) = import_model(model, examples).samples
        assert list(sample) == ["a", "b"] and sample["a"].dtype == np.float32 and sample["b"].dtype == np.int64
        np.testing.assert_array_equal(sample["a"], X)
    assert len(import_model(model, [(X, b), (X[:1], b[:1])]).samples) == 2
    arranged = import_model(model).arrange(X, b=b)
    assert list(arranged) == ["a", "b"]


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ({"x": X.astype(np.float64), "n": X}, "takes float32, not float64"),
        ({"x": X[None], "n": X}, "has 1 dimensions"),
        ({"x": X[:1], "n": X}, r"has the shape \[2\]"),
        ({"z": X}, "no input 'z'"),
        ((X, X, X), "takes 2 inputs"),
        ((X,), "the input 'n' is missing"),
        ({"x": None, "n": X}, "'x' is None"),
        ({"x": [0.5, "a"], "n": X}, "takes float32"),
        ({"x": X, "n": X.repeat(2), "m": X}, "no input 'm'"),
        ([(X, X), (X, X, X)], "takes 2 inputs"),
    ],
)
def test_example_inputs_that_do_not_fit_are_an_input_error(examples: object, message: str) -> None:
    model = parse_model("""<ir_version: 9, opset_import: ["" : 19]> net (float[2] x, float[N] n) => (float[N] y) { y = Add (x, n) }""")
    with pytest.raises(InputError, match=message):
        import_model(model, examples)


def test_one_symbol_has_one_size_in_a_sample() -> None:
    model = parse_model("""<ir_version: 9, opset_import: ["" : 19]> net (float[N] a, float[N] b) => (float[N] y) { y = Add (a, b) }""")
    with pytest.raises(InputError, match="the dimension 'N' is 2 in the input 'a' but 4 in 'b'"):
        import_model(model, (X, X.repeat(2)))


def test_sequences_and_optionals_are_fed_as_lists_and_none() -> None:
    text = """<ir_version: 9, opset_import: ["" : 19]> net (seq(float[2]) s, optional(float[2]) o) => (float[2] y, bool h) {
        i = Constant <value_int = 0> ()
        y = SequenceAt (s, i)
        h = OptionalHasElement (o)
    }"""
    (sample,) = import_model(parse_model(text), {"s": [X, X], "o": None}).samples
    assert sample["o"] is None and [item.dtype for item in sample["s"]] == [np.float32, np.float32]
    with pytest.raises(InputError, match="is a sequence"):
        import_model(parse_model(text), {"s": X, "o": None})


def test_a_node_of_another_version_than_its_model_is_refused() -> None:
    model = ir.from_proto(parse_model(SCALE))
    next(iter(model.graph)).version = 6
    with pytest.raises(ModelError, match="is of version 6, but the model imports 19"):
        import_model(model)


NUMPY = {"tensor(float)": "f4", "tensor(float16)": "f2", "tensor(uint8)": "u1", "tensor(int32)": "i4", "tensor(int64)": "i8"}


@pytest.mark.shared
def test_every_real_model_comes_in_and_answers_as_before(shared: Path) -> None:
    files = sorted((shared / "models").glob("*.onnx"))
    assert files
    for file in files:
        before = ort.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
        free = 512 if file.name == "silero_vad.onnx" else 1
        shapes = {port.name: [dim if isinstance(dim, int) else 1 for dim in port.shape] for port in before.get_inputs()}
        feeds = {
            port.name: np.ones([free if dim == 1 and index else dim for index, dim in enumerate(shapes[port.name])], NUMPY[port.type])
            for port in before.get_inputs()
        }
        if "sr" in feeds:
            feeds |= {"sr": np.array(16000), "state": np.zeros([2, 1, 128], np.float32)}
        after = ort.InferenceSession(to_bytes(import_model(file).model), providers=["CPUExecutionProvider"])
        for have, want in zip(after.run(None, feeds), before.run(None, feeds), strict=True):
            np.testing.assert_array_equal(have, want, err_msg=file.name)
