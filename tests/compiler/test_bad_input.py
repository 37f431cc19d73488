"""Broken model files: one sentence each, never a traceback, never a crash."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import FieldDescriptor
from onnx import TensorProto, helper, numpy_helper
from onnx.parser import parse_model

from graphwright.compiler.core.errors import GraphwrightError, ModelError, UsageError
from graphwright.compiler.importer import import_model

HEAD = '<ir_version: 9, opset_import: ["" : 19]>'
CONV = f"""{HEAD} net (float[N, 3, 8, 8] x) => (float[N, 4, h, w] y, float[N, c] z)
<float[4, 3, 1, 1] w = {{{", ".join(["0.5"] * 12)}}}, float[4] b = {{1, 2, 3, 4}}, int64[2] to = {{0, -1}}> {{
    c = Conv <kernel_shape = [1, 1], strides = [1, 1]> (x, w, b)
    y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)
    z = Reshape (c, to)
}}"""
BRANCHES = f"""{HEAD} net (bool c, float[2] x, int64 n) => (float[2] y, float[2] z) <float[2] w = {{3, 4}}> {{
    y = If (c) <then_branch = yes () => (float[2] a) {{ a = Add (x, w) }}, else_branch = no () => (float[2] b) <float[2] v = {{1, 2}}> {{ b = Mul (x, v) }}>
    z = Loop (n, c, x) <body = step (int64 i, bool go, float[2] s) => (bool go, float[2] t) {{ t = Add (s, w) }}>
}}"""
FUNCTION = """<ir_version: 9, opset_import: ["" : 19, "my" : 1, "com.microsoft" : 1]> net (float[2, 4] x) => (float[2, 4] y) {
    a = my.Twice <scale = 3.0> (x)
    b = com.microsoft.Gelu (a)
    y = Clip (b, , b0)
    b0 = Constant <value = float {6.0}> ()
}
<domain: "my", opset_import: ["" : 19]> Twice <scale> (v) => (r) { s = Constant <value_float : float = @scale> ()  r = Mul (v, s) }"""
SEQUENCES = f"""{HEAD} net (float[2, 4] x, seq(float[2]) q) => (float[2] y) {{
    parts = SplitToSequence <axis = 1, keepdims = 0> (x)
    i = Constant <value_int = 1> ()
    first = SequenceAt (parts, i)
    other = SequenceAt (q, i)
    y = Add (first, other)
}}"""
QUANTISED = f"""{HEAD} net (uint8[1, 4] x) => (float[1, 2] y)
<float s = {{0.5}}, uint8 z = {{3}}, int8[4, 2] w = {{1, 2, 3, 4, 5, 6, 7, 8}}, int8 wz = {{0}}> {{
    a = DequantizeLinear (x, s, z)
    b = DequantizeLinear (w, s, wz)
    y = MatMul (a, b)
}}"""
SEEDS = tuple(parse_model(text).SerializeToString() for text in (CONV, BRANCHES, FUNCTION, SEQUENCES, QUANTISED))
INTEGERS = (-1, 0, 1, 2, 7, 64, 255, 2**31 - 1, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63))
TEXTS = ("", "x", "y", "w", "a", "b", "Relu", "If", "my", "ai.onnx", "com.microsoft", "../w", "\N{SNOWMAN}", "9" * 30, "N*(", "value")


def mutate_bytes(content: bytes, random: random.Random) -> bytes:
    """A few bytes flipped, cut out, doubled or put in."""
    result = bytearray(content)
    for _ in range(random.randint(1, 4)):
        if not result:
            break
        where, length = random.randrange(len(result)), random.randint(1, 8)
        kind = random.randrange(5)
        if kind == 0:
            result[where] ^= 1 << random.randrange(8)
        elif kind == 1:
            result[where] = random.randrange(256)
        elif kind == 2:
            del result[where : where + length]
        elif kind == 3:
            result[where:where] = result[where : where + length]
        else:
            del result[where:]
    return bytes(result)


def mutate_fields(content: bytes, random: random.Random) -> bytes:
    """A few fields of the message, anywhere in it, changed, removed or doubled."""
    model = onnx.ModelProto.FromString(content)
    for _ in range(random.randint(1, 3)):
        message = model
        while True:
            inner = [item for field, value in message.ListFields() if field.message_type for item in (value if field.is_repeated else (value,))]
            if not inner or random.random() < 0.25:
                break
            message = random.choice(inner)
        _mutate_message(message, random)
    try:
        return model.SerializeToString()
    except Exception:
        return content


def _mutate_message(message: object, random: random.Random) -> None:
    field = random.choice(message.DESCRIPTOR.fields)
    value = getattr(message, field.name)
    if field.is_repeated and len(value) and random.random() < 0.6:
        index = random.randrange(len(value))
        if random.random() < 0.4:
            del value[index]
        elif field.message_type:
            value.add().CopyFrom(value[index])
        else:
            value[index] = _random_scalar(field, random)
    elif field.is_repeated:
        value.add() if field.message_type else value.append(_random_scalar(field, random))
    elif random.random() < 0.3:
        message.ClearField(field.name)
    elif field.message_type:
        value.SetInParent()
    else:
        setattr(message, field.name, _random_scalar(field, random))


def _random_scalar(field: FieldDescriptor, random: random.Random) -> object:
    kind = field.cpp_type
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return random.choice((0.0, -1.0, 1e30, float("nan"), float("inf")))
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return random.choice([value.number for value in field.enum_type.values])
    if kind == FieldDescriptor.CPPTYPE_STRING:
        text = random.choice(TEXTS)
        return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
    chosen = random.choice(INTEGERS)
    if kind in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64):
        chosen = abs(chosen)
    return chosen % 2**31 if kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32) else chosen


def attack(start: int, count: int, seeds: tuple[bytes, ...] = SEEDS) -> tuple[int, int]:
    """Import ``count`` mutants; returns how many came in and how many were refused. Anything but a GraphwrightError comes out of here."""
    accepted = refused = 0
    for number in range(start, start + count):
        choice = random.Random(number)
        content = (mutate_bytes, mutate_fields)[number % 2](choice.choice(seeds), choice)
        try:
            import_model(content)
            accepted += 1
        except GraphwrightError as error:
            assert "\n" not in str(error) and str(error), f"mutant {number}: {error}"
            refused += 1
        except BaseException as error:
            raise AssertionError(f"mutant {number} raised {type(error).__name__}: {error}") from error
    return accepted, refused


def refused(source: object) -> str:
    """The sentence with which a model is refused."""
    with pytest.raises(ModelError) as caught:
        import_model(source)
    text = str(caught.value)
    assert text and "\n" not in text and "Traceback" not in text
    return text


def net(body: str, ports: str = "(float[2] x) => (float[2] y)", head: str = HEAD, more: str = "") -> onnx.ModelProto:
    return parse_model(f"{head} net {ports} {{ {body} }} {more}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"not a model at all", "is not an ONNX model, or is cut short"),
        (b"\x08\x09", "has no graph"),
        (bytes(100), "is not an ONNX model"),
        (SEEDS[0][:-20], "is not an ONNX model, or is cut short"),
        (b"\x3a\x00", "has no IR version"),
    ],
)
def test_a_file_that_is_no_model(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    assert message in refused(content)
    assert message in refused(tmp_path / "m.onnx")


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.onnx") == f"there is no file '{tmp_path / 'none.onnx'}'"
    assert "cannot be read: File name too long" in refused("x" * 5000)
    assert "there is no file" in refused("a\0b")
    assert "is a folder and has no config.json" in refused(tmp_path)
    (tmp_path / "m.onnx").touch()
    assert "is a folder; in it there is m.onnx" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refused(tmp_path / "pipe")
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(2**31)
    assert "a .onnx file has at most 2 GiB" in refused(tmp_path / "large.onnx")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / "m.onnx").write_bytes(SEEDS[0])
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert "cannot be read: Permission denied" in refused(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (net("y = Rely (x)"), "there is no operator 'Rely' in ai.onnx (node Rely -> 'y'): is Relu meant?"),
        (net("y = Gelu (x)"), "there is no operator Gelu in version 19 of ai.onnx (node Gelu -> 'y'): it came with version 20"),
        (net("y = Upsample (x, x)"), "there is no operator Upsample in version 19 of ai.onnx (node Upsample -> 'y'): it was withdrawn before"),
        (net("y = my.Op (x)"), "the domain 'my', which the model does not import"),
        (net("y = my.Op (x)", head='<ir_version: 9, opset_import: ["" : 19, "my" : 1]>'), "the domain 'my', which neither ONNX nor ONNX Runtime knows"),
        (net("y = com.microsoft.FusedMatMull (x)"), "is FusedMatMul meant?"),
        (net("a = Neg (y) y = Relu (a)"), "the graph is cyclic"),
        (net("y = Add (x, z)"), "uses 'z', which nothing in the model makes"),
        (net("a = Relu (x)"), "the output 'y' of the graph is made by none of its nodes"),
        (net("y = Relu (x) y = Neg (x)"), "two values of the graph are called 'y'"),
        (net("x = Relu (x) y = Neg (x)"), "two values of the graph are called 'x'"),
        (net("y = Relu (x)", "(float[2] x, float[2] x) => (float[2] y)"), "two values of the graph are called 'x'"),
        (net("y = Relu (x, x)"), "has 2 inputs; Relu has 1"),
        (net("y = Concat <axis = 0> ()"), "has 0 inputs; Concat has at least 1"),
        (net("y, z = Relu (x)"), "has 2 outputs; Relu has 1"),
        (net("y = Add (, x)"), "input 0 of the node Add -> 'y' is left out"),
        (net("y = Relu <alpha = 1.0> (x)"), "the attribute 'alpha', which Relu does not take"),
        (net("y = LeakyRelu <alpha = 1> (x)"), "is of type INT, not FLOAT"),
        (net("y = Cast (x)"), "lacks the attribute 'to', which Cast needs"),
        (net("y = Add (x, z)", "(float[2] x, float[3] z) => (float[2] y)"), "types or shapes do not fit at the Add node 'add': Incompatible dimensions"),
        (net("y = Add (x, z)", "(float[2] x, int64[2] z) => (float[2] y)"), "do not fit at the Add node 'add'"),
        (net("y = Relu (x)", "(float[2] x) => (int64[2] y)"), "FLOAT vs INT64"),
        (net("y = Relu (x)", "(float[4611686018427387904] x) => (float[2] y)"), "larger than any memory"),
        (net("y, z = Split <num_outputs = 1000000000> (x)"), "says it has 1000000000 outputs, but has 2"),
        (net("y = Relu (x)", head='<ir_version: 99, opset_import: ["" : 19]>'), "the model has IR version 99"),
        (net("y = Relu (x)", head='<ir_version: 9, opset_import: ["" : 99]>'), "the model imports version 99 of ai.onnx; versions up to"),
        (net("y = Relu (x)", head='<ir_version: 9, opset_import: ["" : 19, "ai.onnx" : 18]>'), "twice, as version 19 and as version 18"),
    ],
)
def test_a_graph_that_makes_no_sense(model: onnx.ModelProto, message: str) -> None:
    assert message in refused(model)


FLIP = '<domain: "my", opset_import: ["" : 19, "my" : 1]>'
MY = '<ir_version: 9, opset_import: ["" : 19, "my" : 1]>'


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        (f"{FLIP} F (a) => (b) {{ b = my.F (a) }}", "the function 'my::F' calls itself"),
        (f"{FLIP} F (a) => (b) {{ b = my.G (a) }} {FLIP} G (a) => (b) {{ b = my.F (a) }}", "calls itself, directly or through others"),
        (f"{FLIP} F (a) => (b) {{ b = Neg (a) }} {FLIP} F (a) => (b) {{ b = Abs (a) }}", "the function 'my::F' is defined twice"),
        (f"{FLIP} F (a) => (b) {{ c = Neg (a) }}", "the output 'b' of the function 'F' is made by none of its nodes"),
        (f"{FLIP} F (a) => (b) {{ b = Neg (x) }}", "uses 'x', which nothing in the model makes"),
        (f"{FLIP} F (a) => (b) {{ c = Shape (a) b = Add (a, c) }}", "types or shapes do not fit"),
        (f"{FLIP} F () => (b) {{ b = Constant <value_float = 1.0> () }}", "has 1 inputs; F has 0"),
        (
            " ".join(f"{FLIP} F{n or ''} (a) => (b) {{ c = my.F{n + 1} (a) b = my.F{n + 1} (c) }}" for n in range(60))
            + f" {FLIP} F60 (a) => (b) {{ b = Neg (a) }}",
            "unfold into",
        ),
    ],
)
def test_functions_that_make_no_sense(functions: str, message: str) -> None:
    assert message in refused(net("y = my.F (x)", head=MY, more=functions))


def weight(**fields: object) -> onnx.ModelProto:
    """x plus a weight called w, made of these TensorProto fields."""
    model = net("y = Add (x, w)", "(float[2] x) => (float[2] y)".replace("x)", "x, float[2] w)"))
    del model.graph.input[1]
    model.graph.initializer.append(TensorProto(**{"name": "w", "data_type": 1, "dims": [2], **fields}))
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (weight(raw_data=bytes(7)), "the initialiser 'w' takes 8 bytes (FLOAT [2]), but holds 7"),
        (weight(), "takes 2 numbers, but holds 0"),
        (weight(float_data=[1, 2, 3]), "takes 2 numbers, but holds 3"),
        (weight(int64_data=[1, 2]), "is FLOAT, whose data is in float_data, but it has data in int64_data"),
        (weight(raw_data=bytes(8), float_data=[1, 2]), "holds its data twice"),
        (weight(dims=[-2], raw_data=bytes(8)), "with a negative dimension"),
        (weight(dims=[2**40, 2**40], raw_data=bytes(8)), "larger than any memory"),
        (weight(dims=[1] * 65, raw_data=bytes(4)), "larger than any memory"),
        (weight(dims=[0, 2**62]), "larger than any memory"),
        (weight(data_type=0, raw_data=bytes(8)), "has the data type 0, which ONNX does not have"),
        (weight(data_type=99, raw_data=bytes(8)), "has the data type 99, which ONNX does not have"),
        (weight(data_type=8, raw_data=bytes(8)), "holds 0 texts"),
        (weight(data_type=8, data_location=1), "texts in an external file"),
        (weight(data_location=1), "give the path of the .onnx file"),
    ],
)
def test_weights_that_do_not_fit_their_shape(model: onnx.ModelProto, message: str) -> None:
    assert message in refused(model)


def test_two_initialisers_of_one_name() -> None:
    model = weight(raw_data=bytes(8))
    model.graph.initializer.append(model.graph.initializer[0])
    assert "two initialisers of the graph are called 'w'" in refused(model)


@pytest.mark.parametrize(("index", "message"), [(5, "an index lies outside"), (-1, "an index lies outside")])
def test_sparse_weights_that_do_not_fit_their_shape(index: int, message: str) -> None:
    model = net("y = Relu (x)")
    indices = numpy_helper.from_array(np.array([index]), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(numpy_helper.from_array(np.ones(1, np.float32), "w"), indices, [5]))
    assert message in refused(model)
    model.graph.sparse_initializer[0].dims[0] = 2**40
    assert "too many to write out" in refused(model)


def test_types_that_cannot_be_compiled() -> None:
    model = net("y = Relu (x)")
    entry = model.graph.output[0].type.sequence_type.elem_type.map_type
    entry.key_type = TensorProto.INT64
    entry.value_type.tensor_type.elem_type = TensorProto.FLOAT
    assert "the output 'y' is a map, which is not supported" in refused(model)
    kind = model.graph.input[0].type
    kind.Clear()
    assert "the input 'x' has no type" in refused(model)
    for _ in range(12):
        kind = kind.sequence_type.elem_type
    kind.tensor_type.elem_type = TensorProto.FLOAT
    assert "nested more than 8 deep" in refused(model)


def test_graphs_nested_without_end() -> None:
    model = net("y = Relu (x)")
    graph = model.graph
    for _ in range(5000):
        graph = graph.node.add(op_type="If").attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g
    assert "nested more than 30 deep" in refused(model)


def test_a_cycle_through_a_branch() -> None:
    body = "y = If (c) <then_branch = t () => (float[2] a) { a = Neg (y) }, else_branch = e () => (float[2] b) { b = Neg (x) }>"
    assert "the graph is cyclic" in refused(net(body, "(bool c, float[2] x) => (float[2] y)"))


def test_a_name_in_a_branch_that_could_mean_two_values() -> None:
    body = "z = Abs (x) y = If (c) <then_branch = t () => (float[2] z) { z = Neg (x) }, else_branch = e () => (float[2] b) { b = Neg (x) }>"
    assert "which one is meant is not clear" in refused(net(body, "(bool c, float[2] x) => (float[2] y)"))


def test_names_that_are_no_text_or_break_lines() -> None:
    assert "is not readable text" in refused(net("y = Relu (xxxx)", "(float[2] xxxx) => (float[2] y)").SerializeToString().replace(b"xxxx", b"x\xff\xfex"))
    model = net("y = Relu (x)")
    model.graph.node[0].input[0] = "line\nbreak\x1b[31m"
    assert "uses 'line break?[31m'" in refused(model)


def test_text_for_people_that_is_not_readable_does_not_matter() -> None:
    model = net("y = Relu (x)")
    model.producer_name = model.graph.doc_string = model.graph.node[0].doc_string = "qqqq"
    model.metadata_props.add(key="qqqq", value="v")
    assert import_model(model.SerializeToString().replace(b"qqqq", b"q\xff\xfeq")).model.producer_name is None


@pytest.mark.parametrize("source", [None, 3, object(), {"x": 1}])
def test_what_is_no_model_at_all(source: object) -> None:
    with pytest.raises(UsageError, match="is not a model"):
        import_model(source)


def test_300_mutants_come_in_or_are_refused_in_a_sentence() -> None:
    accepted, refused = attack(0, 300)
    assert accepted + refused == 300 and accepted > 20 and refused > 100


@pytest.mark.slow
def test_20000_mutants_come_in_or_are_refused_in_a_sentence() -> None:
    """In a process of its own: not even the interpreter may die of them."""
    program = f"import runpy, json; print(json.dumps(runpy.run_path({__file__!r})['attack'](1000, 20000)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    accepted, refused = json.loads(done.stdout)
    assert accepted + refused == 20000 and accepted > 2000
