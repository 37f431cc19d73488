"""One model in one session: what goes in, what comes out, and what is said when it does not."""

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from graphwright.backends.ort.cuda.options import CudaOptions
from graphwright.backends.ort.failures import clean
from graphwright.backends.ort.options import DEFAULT, REFERENCE, Options, read_options
from graphwright.backends.ort.reference import open_baseline, open_model, open_reference
from graphwright.backends.ort.session import open_file
from graphwright.backends.ort.skeleton import skeleton_of
from graphwright.compiler.core.errors import ArtifactError, BackendMissing, InputError, ModelError, TargetError

RELU = "g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"


def run(model, **feeds):
    runner = open_reference(model)
    try:
        return runner.run(feeds)
    finally:
        runner.close()


def test_outputs_come_by_name(model):
    outputs = run(model("g (float[N] x) => (float[N] a, float[N] b) { a = Neg(x) b = Abs(x) }"), x=np.float32([1, -2]))
    assert list(outputs) == ["a", "b"]
    np.testing.assert_array_equal(outputs["b"], np.float32([1, 2]))


def test_ports_say_dtype_and_shape(model):
    runner = open_reference(model("g (float[N,3] x, int64 k, seq(float[M]) s) => (float[N,3] y, seq(float[M]) t) { y = Relu(x) t = Identity(s) }"))
    assert [(port.name, port.dtype, port.shape) for port in runner.inputs] == [
        ("x", "tensor(float)", ("N", 3)),
        ("k", "tensor(int64)", ()),
        ("s", "seq(tensor(float))", None),
    ]
    assert [port.dtype for port in runner.outputs] == ["tensor(float)", "seq(tensor(float))"]


@pytest.mark.parametrize(
    ("feeds", "says"),
    [
        ({}, "the input 'x' is missing: the model takes 'x' tensor(float) [N, 3]"),
        ({"x": np.ones((2, 3), np.float32), "z": np.ones(1)}, "the model has no input 'z': it takes 'x'"),
        ({"x": np.ones((2, 3))}, "takes float32, but was given float64 [2, 3]"),
        ({"x": np.ones((2, 3), ">f4")}, "takes float32, but was given float32 of the other byte order"),
        ({"x": np.ones((2, 4), np.float32)}, "'x' tensor(float) [N, 3] was given the shape [2, 4]"),
        ({"x": np.ones(3, np.float32)}, "was given the shape [3]"),
        ({"x": [np.ones(3, np.float32)]}, "takes an array, not a list"),
        ({"x": None}, "takes an array, not nothing"),
        ({"x": np.array([["a", "b", "c"]])}, "takes float32, but was given str"),
    ],
)
def test_wrong_feeds_are_named(model, feeds, says):
    with pytest.raises(InputError) as caught:
        run(model(RELU), **feeds)
    assert says in str(caught.value)


@pytest.mark.parametrize("cut", [np.s_[:, ::2], np.s_[::-1, ::-2], np.s_[:0, :3]])
def test_feeds_may_lie_in_memory_as_they_like(model, cut):
    numbers = np.arange(12, dtype=np.float32).reshape(2, 6)[cut]
    np.testing.assert_array_equal(run(model("g (float[N,3] x) => (float[N,3] y) { y = Neg(x) }"), x=numbers)["y"], -numbers)


def test_a_model_that_fails_on_its_inputs_blames_them_in_one_line(model, capfd):
    with pytest.raises(InputError, match="cannot run on these inputs.*Gather.*idx=7") as caught:
        run(model("g (float[N] x, int64[M] i) => (float[K] y) { y = Gather(x, i) }"), x=np.ones(2, np.float32), i=np.array([7]))
    assert "\n" not in str(caught.value)
    assert "onnxruntime_src" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("g (float[2] x) => (float[2] y) { y = Froth(x) }", TargetError, "does not know the operator Froth of opset 21"),
        ("g (float[2] x) => (float[2] y) { y = com.microsoft.Froth(x) }", TargetError, "does not know the operator com.microsoft::Froth"),
        ("g (bfloat16[2] x) => (bfloat16[2] y) { y = Erf(x) }", TargetError, "no CPU kernel for Erf of opset 13"),
        ("g (float[2,3] x) => (float[2,2] y) { y = MatMul(x, x) }", ModelError, "Incompatible dimensions"),
    ],
)
def test_what_cannot_be_loaded_says_why(model, capfd, text, error, says):
    with pytest.raises(error) as caught:
        open_reference(model(text))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_model_of_the_future_needs_a_newer_runtime(model):
    with pytest.raises(TargetError, match="too old for the model"):
        open_reference(model(RELU, opset=90))


def test_messages_lose_their_c_plus_plus():
    text = (
        "[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: /onnxruntime_src/onnxruntime/core/string_normalizer.cc:235 "
        "onnxruntime::StringNormalizer::Locale::Locale(const std::string&)::<lambda()> Failed to construct locale\n"
    )
    assert clean(text) == "Exception during initialization: Failed to construct locale"
    assert len(clean("x" * 9000)) == 400


def test_broken_and_missing_files_are_one_sentence(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="Protobuf parsing failed"):
        open_file(tmp_path / "broken.onnx")
    with pytest.raises(ModelError, match="doesn't exist"):
        open_file(tmp_path / "missing.onnx")


def test_cuda_is_missing_in_one_sentence(model):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CUDA is here")
    with pytest.raises(BackendMissing, match="ort-cuda needs"):
        open_baseline(model(RELU), options=CudaOptions())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"])
def test_numpys_dtypes_pass(model, dtype):
    name = {"float32": "float", "float64": "double"}.get(dtype, dtype)
    x = np.array([[0, 1], [1, 0]]).astype(dtype)
    y = run(model(f"g ({name}[N,2] x) => ({name}[N,2] y) {{ y = Identity(x) }}"), x=x)["y"]
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2, ml_dtypes.float8_e5m2fnuz])
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 3)])
def test_dtypes_numpy_has_not_pass_bit_for_bit(model, dtype, shape):
    name = np.dtype(dtype).name.replace("_", "")
    dims = ",".join(map(str, shape))
    x = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    y = run(model(f"g ({name}[{dims}] x) => ({name}[{dims}] y) {{ y = Identity(x) }}"), x=x)["y"]
    assert y.dtype == x.dtype
    assert y.shape == shape
    assert y.tobytes() == x.tobytes()


@pytest.mark.parametrize(("dtype", "low", "high"), [("int4", -8, 7), ("uint4", 0, 15)])
@pytest.mark.parametrize("count", [0, 1, 4, 5])
def test_four_bit_values_go_in_and_out(model, dtype, low, high, count):
    x = np.random.default_rng(0).integers(low, high, count, endpoint=True).astype(getattr(ml_dtypes, dtype))
    there = run(model(f"g ({dtype}[N] x, float s) => (float[N] y) {{ y = DequantizeLinear(x, s) }}"), x=x, s=np.array(1, np.float32))["y"]
    np.testing.assert_array_equal(there, x.astype(np.float32))
    zero = np.array(0).astype(x.dtype)
    back = run(model(f"g (float[N] y, float s, {dtype} z) => ({dtype}[N] x) {{ x = QuantizeLinear(y, s, z) }}"), y=there, s=np.array(1, np.float32), z=zero)[
        "x"
    ]
    assert back.dtype == x.dtype
    np.testing.assert_array_equal(back, x)


def test_scalars_views_and_empty_dimensions_pass(model):
    total = model("g (float[2,N] x) => (float y) { y = ReduceSum<keepdims=0>(x) }")
    assert run(total, x=np.ones((2, 0), np.float32))["y"] == 0
    strided = np.arange(12, dtype=np.float32).reshape(2, 6)[:, ::2]
    assert run(total, x=strided)["y"] == strided.sum()
    scalar = run(model("g (float x) => (float y) { y = Neg(x) }"), x=np.float32(3))["y"]
    assert (scalar.shape, scalar) == ((), -3)


def test_texts_go_in_and_out_in_any_of_numpys_ways(model):
    twice = model("g (string[N] x) => (string[N] y) { y = StringConcat(x, x) }")
    for texts in (np.array(["a", "bé"]), np.array(["a", "bé"], dtype=object)):
        assert list(run(twice, x=texts)["y"]) == ["aa", "bébé"]
    for wrong in (np.array([b"a"]), np.array(["a", 3], dtype=object), np.ones(2, np.float32)):
        with pytest.raises(InputError, match="takes texts"):
            run(twice, x=wrong)


def test_sequences_are_lists(model):
    joined = model("g (seq(float[N]) x) => (float[M] y, seq(float[N]) z) { y = ConcatFromSequence<axis=0>(x) z = Identity(x) }")
    outputs = run(joined, x=[np.ones(2, np.float32), np.zeros(1, np.float32)])
    np.testing.assert_array_equal(outputs["y"], np.float32([1, 1, 0]))
    assert [item.shape for item in outputs["z"]] == [(2,), (1,)]
    with pytest.raises(InputError, match="is a sequence: give a list of arrays, not float32"):
        run(joined, x=np.ones(2, np.float32))
    with pytest.raises(InputError, match="takes float32, but was given float64"):
        run(joined, x=[np.ones(2)])


def test_optionals_are_none_or_the_value(model):
    there = model("g (optional(float[N]) x) => (bool y) { y = OptionalHasElement(x) }")
    assert run(there, x=np.ones(2, np.float32))["y"]
    assert not run(there, x=None)["y"]
    sequence = model("g (optional(seq(float[N])) x) => (bool y) { y = OptionalHasElement(x) }")
    assert run(sequence, x=[np.ones(2, np.float32)])["y"]
    assert not run(sequence, x=None)["y"]


def test_control_flow_runs(model):
    branches = model(
        "g (float[N] x, bool c) => (float[N] y)"
        " { y = If(c) <then_branch = t () => (float[N] a) { a = Neg(x) }, else_branch = e () => (float[N] b) { b = Add(x, x) }> }"
    )
    x = np.float32([1, 2])
    np.testing.assert_array_equal(run(branches, x=x, c=np.array(True))["y"], -x)
    np.testing.assert_array_equal(run(branches, x=x, c=np.array(False))["y"], x + x)


def test_an_initialiser_that_is_an_input_can_be_overridden_or_left_out(model):
    made = model("g (float[N] x, float[1] w) => (float[N] y) { y = Add(x, w) }")
    value = made.graph.inputs[1]
    value.const_value = ir.tensor(np.float32([5]), name="w")
    made.graph.register_initializer(value)
    x = np.zeros(2, np.float32)
    assert run(made, x=x)["y"][0] == 5
    assert run(made, x=x, w=np.float32([1]))["y"][0] == 1


WIDE = "g (float[N,64] x, float[64,64] w) => (float[N,64] y) { y = MatMul(x, w) }"


def weights(seed=0, shape=(64, 64)):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def on_disk(array, folder, name="w", file="weights.bin", offset=24):
    (folder / file).write_bytes(bytes(offset) + array.tobytes())
    return ir.ExternalTensor(file, offset, array.nbytes, ir.DataType.from_numpy(array.dtype), shape=ir.Shape(array.shape), name=name, base_dir=folder)


def test_weights_in_memory_are_handed_over(model):
    w, x = weights(), weights(1, (2, 64))
    made = model(WIDE, w=w)
    y = run(made, x=x)["y"]
    np.testing.assert_allclose(y, x @ w, rtol=1e-5, atol=1e-5)
    assert made.graph.initializers["w"].const_value.numpy() is w


def test_weights_on_disk_give_the_same_bits_as_in_memory(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    w, x = weights(), weights(1, (2, 64))
    inside = run(model(WIDE, w=w), x=x)["y"]
    (tmp_path / "there").mkdir()
    outside = run(model(WIDE, w=on_disk(w, tmp_path / "there")), x=x)["y"]
    assert inside.tobytes() == outside.tobytes()


def test_weights_in_two_folders_are_both_found(model, tmp_path):
    text = "g (float[N,64] x, float[64,64] w, float[64,64] v) => (float[N,64] y) { z = MatMul(x, w) y = MatMul(z, v) }"
    for name in "ab":
        (tmp_path / name).mkdir()
    w, v, x = weights(0), weights(2), weights(1, (2, 64))
    inside = run(model(text, w=w, v=v), x=x)["y"]
    outside = run(model(text, w=on_disk(w, tmp_path / "a"), v=on_disk(v, tmp_path / "b", name="v")), x=x)["y"]
    assert inside.tobytes() == outside.tobytes()


def test_weights_of_a_replaced_file_are_those_that_were_imported(model, tmp_path):
    class Held(ir.ExternalTensor):
        def is_unchanged(self):
            return False

        def numpy(self):
            return w

    w, x = weights(), weights(1, (2, 64))
    (tmp_path / "weights.bin").write_bytes(weights(7).tobytes())
    tensor = Held("weights.bin", 0, w.nbytes, ir.DataType.FLOAT, shape=ir.Shape(w.shape), name="w", base_dir=tmp_path)
    assert run(model(WIDE, w=tensor), x=x)["y"].tobytes() == run(model(WIDE, w=w), x=x)["y"].tobytes()


def test_weights_inside_branches_are_found(model, tmp_path):
    made = model(
        "g (float[N,64] x, bool c) => (float[N,64] y)"
        " { y = If(c) <then_branch = t () => (float[N,64] a) { a = Mul(x, x) }, else_branch = e () => (float[N,64] b) { b = Neg(x) }> }"
    )
    w, x = weights(), weights(1, (2, 64))
    for tensor in (ir.tensor(w, name="w"), on_disk(w, tmp_path)):
        branch = made.clone()
        graph = branch.graph[0].attributes["then_branch"].as_graph()
        value = ir.Value(name="w", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(w.shape), const_value=tensor)
        graph.register_initializer(value)
        node = graph[0]
        graph.append(ir.Node("", "MatMul", [node.inputs[0], value], outputs=[ir.Value(name="b2")]))
        graph.outputs[0] = graph[1].outputs[0]
        graph[1].outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        np.testing.assert_allclose(run(branch, x=x, c=np.array(True))["y"], x @ w, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, ml_dtypes.float8_e4m3fn])
def test_large_weights_of_any_dtype_are_right(model, tmp_path, dtype):
    w = weights().astype(dtype)
    name = np.dtype(dtype).name.replace("_", "")
    text = f"g (float x, {name}[64,64] w) => (float[64,64] y) {{ z = Cast<to=1>(w) y = Mul(z, x) }}"
    for tensor in (ir.tensor(w, name="w"), on_disk(w.view(np.uint8 if w.itemsize == 1 else np.uint16), tmp_path)):
        if isinstance(tensor, ir.ExternalTensor):
            tensor = ir.ExternalTensor(
                tensor.location, tensor.offset, tensor.length, ir.DataType.from_numpy(w.dtype), shape=ir.Shape(w.shape), name="w", base_dir=tmp_path
            )
        y = run(model(text, w=tensor), x=np.array(1, np.float32))["y"]
        np.testing.assert_array_equal(y, w.astype(np.float32))


def test_large_int4_weights_are_right(model):
    codes = np.random.default_rng(0).integers(-8, 8, (64, 65)).astype(ml_dtypes.int4)
    text = "g (float s, int4[64,65] w) => (float[64,65] y) { y = DequantizeLinear(w, s) }"
    y = run(model(text, w=ir.tensor(codes, name="w")), s=np.array(0.5, np.float32))["y"]
    np.testing.assert_array_equal(y, codes.astype(np.float32) / 2)


def test_unused_weights_do_no_harm(model):
    x = np.ones((2, 3), np.float32)
    assert run(model("g (float[N,3] x, float[64,64] w) => (float[N,3] y) { y = Relu(x) }", w=weights()), x=x)["y"].tobytes() == x.tobytes()


def test_a_model_is_not_changed_by_running_it(model, tmp_path):
    made = model(WIDE, w=on_disk(weights(), tmp_path))
    before = ir.to_proto(made).SerializeToString()
    run(made, x=weights(1, (2, 64)))
    assert ir.to_proto(made).SerializeToString() == before


def test_the_reference_leaves_the_graph_alone_and_the_baseline_does_not():
    assert REFERENCE.session_options().graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert DEFAULT.session_options().graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL


def test_options_reach_the_session():
    given = Options(threads=3, arena=False, prepacking=False, without=("A", "B")).session_options()
    assert given.intra_op_num_threads == 3
    assert not given.enable_cpu_mem_arena
    assert given.get_session_config_entry("session.disable_prepacking") == "1"
    assert given.get_session_config_entry("session.force_spinning_stop") == "1"
    assert given.get_session_config_entry("optimization.disable_specified_optimizers") == "A;B"


def test_two_optimizers_can_be_left_out(model, tmp_path):
    def operators(options):
        made = model(
            "g (float[2,4,8] x, float[2,4,8] r, float[8] s) => (float[2,4,8] y) { a = Add(x, r) b = LayerNormalization(a, s, s) c = Add(b, s) y = Gelu(c) }",
            s=np.ones(8, np.float32),
        )
        given = options.session_options()
        given.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        onnxruntime.InferenceSession(skeleton_of(made).to_bytes(), given)
        return {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}

    assert operators(Options()) == {"SkipLayerNormalization", "BiasGelu"}
    assert operators(Options(without=("SkipLayerNormFusion", "BiasGeluFusion"))) == {"Add", "LayerNormalization", "Gelu"}


def test_options_survive_a_manifest():
    options = Options(level="basic", threads=2, without=("A",))
    assert read_options(options.to_dict()) == options
    assert read_options({}) == DEFAULT
    for wrong in ({"level": "most"}, {"threads": "2"}, {"threads": -1}, {"threads": True}, {"arena": 1}, {"without": "A"}):
        with pytest.raises(ArtifactError, match="cannot be"):
            read_options(wrong)
    with pytest.raises(ArtifactError, match="no session option 'speed'"):
        read_options({"speed": 9})


def test_a_stopwatch_counts_its_runs_and_checks_feeds_first(model):
    runner = open_model(model(RELU), DEFAULT)
    assert runner.stopwatch({"x": np.ones((1, 3), np.float32)})(3) > 0
    with pytest.raises(InputError):
        runner.stopwatch({})


def test_a_closed_runner_says_so(model):
    runner = open_reference(model(RELU))
    runner.close()
    with pytest.raises(RuntimeError, match="closed"):
        runner.run({"x": np.ones((1, 3), np.float32)})
