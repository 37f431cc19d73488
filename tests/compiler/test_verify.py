"""Legal rounding passes; bugs of the size that real ones have do not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from graphwright.backends.ort.reference import open_reference
from graphwright.compiler.comparison import compare
from graphwright.compiler.core.backend import Runner
from graphwright.compiler.core.drift import DOMAIN, EXACT, LOSSY, ROUNDING
from graphwright.compiler.core.errors import InputError
from graphwright.compiler.core.graph import bind_opsets, clone_model, is_op
from graphwright.compiler.samples import generate
from graphwright.compiler.tolerance import CAP, CHAOTIC_FACTOR, Noise, Stress, measure, stress_of
from graphwright.compiler.verify import Verifier

NAN, INF = np.nan, np.inf


class Plain:
    """ONNX Runtime without optimisations."""

    def reference(self, model: ir.Model) -> Runner:
        return open_reference(model)


class Fast:
    """ONNX Runtime with all of its own fusions: other kernels, other order of additions, the same meaning."""

    def __init__(self, marked: str) -> None:
        self.marked = marked

    def reference(self, model: ir.Model) -> Runner:
        return open_reference(model) if model.producer_name != self.marked else _FastRunner(model)


class _FastRunner:
    inputs = outputs = ()

    def __init__(self, model: ir.Model) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        self.session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(self, feeds: dict) -> dict:
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, feeds), strict=True))

    def close(self) -> None:
        return None


def model_of(text: str, opset: int = 18, **weights: np.ndarray) -> ir.Model:
    """A model from ONNX text, with arrays as initialisers for the inputs of their name."""
    model = ir.from_onnx_text(f'<ir_version: 9, opset_import: ["" : {opset}]>\n{text}')
    for value in [value for value in model.graph.inputs if value.name in weights]:
        model.graph.inputs.remove(value)
        content = weights[value.name or ""]
        value.const_value = ir.tensor(content, name=value.name)
        value.type, value.shape = ir.TensorType(value.const_value.dtype), ir.Shape(content.shape)
        model.graph.register_initializer(value)
    bind_opsets(model)
    return model


def samples_for(model: ir.Model) -> tuple:
    runner = open_reference(model)
    try:
        return generate(model, run=runner.run)
    finally:
        runner.close()


def verifier_of(model: ir.Model) -> Verifier:
    return Verifier(model, samples_for(model), Plain())


@functools.cache
def made_verifier(make: Callable[..., ir.Model], seed: int = 0, soft: bool = False) -> Verifier:
    """One verifier for all bugs of a model: checking changes nothing in it."""
    return verifier_of(make(seed, soft=soft) if soft else make(seed))


def with_weight(model: ir.Model, name: str, change: Callable[[np.ndarray], np.ndarray]) -> ir.Model:
    """A copy with another content in one initialiser."""
    copy = clone_model(model)
    content = copy.graph.initializers[name].const_value.numpy()  # type: ignore[union-attr]
    copy.graph.initializers[name].const_value = ir.tensor(np.asarray(change(content.copy()), content.dtype), name=name)
    return copy


def channel(scale: float = 1.0, shift: float = 0.0, axis: int = 0, place: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    """Scale and shift one channel."""

    def change(content: np.ndarray) -> np.ndarray:
        index = tuple(place if axis % content.ndim == other else slice(None) for other in range(content.ndim))
        content[index] = content[index] * scale + shift
        return content

    return change


def convolutional(seed: int = 0, blocks: int = 6, fold: bool = False, epsilon: float = 1e-5) -> ir.Model:
    """A residual network of Conv, BatchNormalization and Relu; ``fold`` has the normalisations folded into the weights."""
    rng = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}
    lines, before, width = [], "x", 3
    for place in range(blocks):
        count = 16
        w = (rng.standard_normal((count, width, 3, 3)) * np.sqrt(2 / (width * 9))).astype(np.float32)
        b = (0.1 * rng.standard_normal(count)).astype(np.float32)
        s, t, u = rng.uniform(0.5, 1.5, count), 0.1 * rng.standard_normal(count), 0.1 * rng.standard_normal(count)
        v = rng.uniform(0.3, 2.0, count)
        norm = {f"{name}{place}": content.astype(np.float32) for name, content in zip("stuv", (s, t, u, v), strict=True)}
        s, t, u, v = (norm[f"{name}{place}"].astype(np.float64) for name in "stuv")
        if fold:
            factor = s / np.sqrt(v + 1e-5)
            w, b = (w * factor[:, None, None, None]).astype(np.float32), ((b - u) * factor + t).astype(np.float32)
            lines.append(f"n{place} = Conv<pads=[1,1,1,1]>({before}, w{place}, b{place})")
        else:
            weights |= norm
            lines.append(f"c{place} = Conv<pads=[1,1,1,1]>({before}, w{place}, b{place})")
            lines.append(f"n{place} = BatchNormalization<epsilon={epsilon}>(c{place}, s{place}, t{place}, u{place}, v{place})")
        weights |= {f"w{place}": w, f"b{place}": b}
        joined = f"n{place}" if place % 2 == 0 else f"j{place}"
        if place % 2:
            lines.append(f"j{place} = Add(n{place}, r{place - 1})")
        lines.append(f"r{place} = Relu({joined})")
        before, width = f"r{place}", count
    weights["head"] = (rng.standard_normal((width, 10)) / 4).astype(np.float32)
    inputs = ", ".join(["float[N,3,H,W] x", *(f"float[{','.join(map(str, content.shape))}] {name}" for name, content in weights.items())])
    body = " ".join([*lines, f"p = GlobalAveragePool({before}) f = Flatten(p) y = MatMul(f, head)"])
    return model_of(f"g ({inputs}) => (float[N,10] y) {{ {body} }}", **weights)


def transformer(seed: int = 0, layers: int = 3, epsilon: float = 1e-5, fused: bool = False, soft: bool = False) -> ir.Model:
    """Token ids and a mask through attention and feed-forward layers; ``fused`` has standard operators for the normalisation and the GELU."""
    rng = np.random.default_rng(seed)
    wide = 32
    weights = {"table": rng.standard_normal((50, wide)).astype(np.float32), "root2": np.float32(np.sqrt(2)), "eps": np.float32(epsilon)}
    weights |= {"one": np.float32(1), "half": np.float32(0.5), "two": np.float32(2), "big": np.float32(-1e9), "last": np.array([-1])}
    weights |= {"split": np.array([0, 0, 4, 8]), "join": np.array([0, 0, wide]), "scale": np.float32(1 / np.sqrt(8)), "spread": np.array([1, 2])}
    lines = ["h0 = Gather(table, ids) mf = Cast<to=1>(mask) inv = Sub(one, mf) neg = Mul(inv, big) bias = Unsqueeze(neg, spread)"]

    def norm(before: str, after: str) -> str:
        weights[f"g_{after}"] = rng.uniform(0.5, 1.5, wide).astype(np.float32)
        weights[f"o_{after}"] = (0.1 * rng.standard_normal(wide)).astype(np.float32)
        if fused:
            return f"{after} = LayerNormalization<epsilon={epsilon}>({before}, g_{after}, o_{after})"
        return (
            f"m_{after} = ReduceMean({before}, last) d_{after} = Sub({before}, m_{after}) q_{after} = Pow(d_{after}, two)"
            f" v_{after} = ReduceMean(q_{after}, last)"
            f" e_{after} = Add(v_{after}, eps) s_{after} = Sqrt(e_{after}) n_{after} = Div(d_{after}, s_{after}) k_{after} = Mul(n_{after}, g_{after})"
            f" {after} = Add(k_{after}, o_{after})"
        )

    def linear(before: str, after: str, rows: int, columns: int) -> str:
        weights[f"w_{after}"] = (rng.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)
        weights[f"b_{after}"] = (0.1 * rng.standard_normal(columns)).astype(np.float32)
        return f"l_{after} = MatMul({before}, w_{after}) {after} = Add(l_{after}, b_{after})"

    for place in range(layers):
        lines.append(norm(f"h{place}", f"a{place}"))
        for name, order in (("q", "0,2,1,3"), ("k", "0,2,3,1"), ("v", "0,2,1,3")):
            lines.append(linear(f"a{place}", f"{name}{place}", wide, wide))
            lines.append(f"{name}r{place} = Reshape({name}{place}, split) {name}t{place} = Transpose<perm=[{order}]>({name}r{place})")
        lines.append(f"sc{place} = MatMul(qt{place}, kt{place}) ss{place} = Mul(sc{place}, scale) sm{place} = Add(ss{place}, bias)")
        lines.append(f"p{place} = Softmax<axis=-1>(sm{place}) c{place} = MatMul(p{place}, vt{place}) ct{place} = Transpose<perm=[0,2,1,3]>(c{place})")
        lines.append(f"cr{place} = Reshape(ct{place}, join) {linear(f'cr{place}', f'o{place}', wide, wide)} u{place} = Add(h{place}, o{place})")
        lines.append(norm(f"u{place}", f"f{place}"))
        lines.append(linear(f"f{place}", f"i{place}", wide, 4 * wide))
        if fused:
            lines.append(f"x{place} = Gelu(i{place})")
        else:
            lines.append(f"g0{place} = Div(i{place}, root2) g1{place} = Erf(g0{place}) g2{place} = Add(g1{place}, one) g3{place} = Mul(i{place}, g2{place})")
            lines.append(f"x{place} = Mul(g3{place}, half)")
        lines.append(f"{linear(f'x{place}', f'z{place}', 4 * wide, wide)} h{place + 1} = Add(u{place}, z{place})")
    lines.append(norm(f"h{layers}", "final"))
    lines.append(linear("final", "logits", wide, 50))
    lines.append("y = Softmax<axis=-1>(logits)" if soft else "y = Identity(logits)")
    kinds = {"float32": "float", "int64": "int64"}
    declared = (f"{kinds[np.asarray(content).dtype.name]}[{','.join(map(str, np.shape(content)))}] {name}" for name, content in weights.items())
    text = f"g (int64[B,S] ids, int64[B,S] mask, {', '.join(declared)}) => (float[B,S,50] y) {{ {' '.join(lines)} }}"
    return model_of(text, opset=20, **{name: np.asarray(content) for name, content in weights.items()})


# --- exact ---------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "broken"),
    [
        (np.float32([1, 2]), np.float32([1, 2]), False),
        (np.float32([1, 2]), np.float32([1, np.nextafter(np.float32(2), np.float32(3))]), True),
        (np.float32([NAN, INF]), np.float32([-NAN, INF]), False),
        (np.float32([INF]), np.float32([-INF]), True),
        (np.float32([NAN]), np.float32([0]), True),
        (np.float32([0.0]), np.float32([-0.0]), True),
        (np.float32([1]), np.float64([1]), True),
        (np.float32([1]), np.float32([[1]]), True),
        (np.float32([]), np.float32([]), False),
        (np.zeros((0, 3), np.float32), np.zeros((0, 4), np.float32), True),
        (np.int64([5, -5]), np.int64([5, -5]), False),
        (np.uint8([0]), np.uint8([255]), True),
        (np.array([True]), np.array([False]), True),
        (np.array(["a", "b"], object), np.array(["a", "b"], object), False),
        (np.array(["a", "b"], object), np.array(["a", "c"], object), True),
        (np.array([1.5, NAN], ml_dtypes.bfloat16), np.array([1.5, NAN], ml_dtypes.bfloat16), False),
        (np.array([1.5], ml_dtypes.bfloat16), np.array([1.25], ml_dtypes.bfloat16), True),
        (np.complex64([1 + 2j]), np.complex64([1 + 3j]), True),
        ([np.float32([1])], [np.float32([1])], False),
        ([np.float32([1])], [np.float32([1]), np.float32([2])], True),
        ([np.float32([1])], [np.float32([2])], True),
        (None, None, False),
        (None, np.float32([1]), True),
        ([{1: 0.5}], [{1: 0.5}], False),
        ([{1: 0.5}], [{1: 0.25}], True),
        ([{1: 0.5}], [{2: 0.5}], True),
    ],
)
def test_exact_means_the_same_bits(before: object, after: object, broken: bool) -> None:
    assert compare({"y": before}, {"y": after}, EXACT).broken is broken  # type: ignore[dict-item]


def test_outputs_must_keep_their_names_and_order() -> None:
    one = np.float32([1])
    assert compare({"y": one, "z": one}, {"z": one, "y": one}, EXACT).broken
    assert compare({"y": one, "z": one}, {"y": one}, ROUNDING).broken


def test_the_worst_element_is_named() -> None:
    found = compare({"y": np.float32([[1, 2], [3, 4]])}, {"y": np.float32([[1, 2.5], [3.1, 4]])}, EXACT)
    assert (found.output, found.index, found.before, found.after, found.max_abs) == ("y", (0, 1), 2.0, 2.5, 0.5)


# --- rounding: what is legal passes ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_folding_batch_normalization_passes(seed: int) -> None:
    found = made_verifier(convolutional, seed).check(convolutional(seed, fold=True), ROUNDING)
    assert not found.broken, found
    assert 0 < found.max_abs < found.allowed


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("soft", [False, True])
def test_fusing_normalisation_and_gelu_passes(seed: int, soft: bool) -> None:
    found = made_verifier(transformer, seed, soft).check(transformer(seed, fused=True, soft=soft), ROUNDING)
    assert not found.broken, found


REAL = [
    "mobilenetv2", "resnet8_cifar10", "darknet_tiny", "llama_260k", "magika_v3_3", "charrnn_bronte", "shufflenetv2", "mobilenetv1_0.5_160",
    "mobilenetv1_0.25_224_trained", "ultraface_rfb320", "dtln_1", "dtln_2", "kws_dscnn", "g2p_encoder", "g2p_decoder_step", "squeezenet_fp16", "silero_vad",
]  # fmt: skip


def real(shared: Path, name: str) -> ir.Model:
    """A trained model whose initialisers nobody can override."""
    model = ir.load(shared / "models" / f"{name}.onnx")
    for value in [value for value in model.graph.inputs if value.is_initializer()]:
        model.graph.inputs.remove(value)
    model.ir_version = max(model.ir_version, 4)
    bind_opsets(model)
    return model


@pytest.mark.shared
@pytest.mark.parametrize("name", REAL)
def test_the_fusions_of_onnx_runtime_pass_on_real_models(shared: Path, name: str) -> None:
    model = real(shared, name)
    ordinary = [sample for sample in samples_for(model) if not stress_of(sample).any][:4]
    fast = clone_model(model)
    fast.producer_name = "run me fast"
    found = Verifier(model, ordinary, Fast("run me fast")).check(fast, ROUNDING)
    assert not found.broken, found


@pytest.mark.shared
@pytest.mark.parametrize("name", [name for name in REAL if name != "squeezenet_fp16"])
def test_no_more_than_a_thousandth_of_the_scale_is_ever_allowed_for_real_models(shared: Path, name: str) -> None:
    model = real(shared, name)
    sample = samples_for(model)[0]
    verifier = Verifier(model, [sample], Plain())
    for output, value in verifier.outputs(0).items():
        assert isinstance(value, np.ndarray)
        noise, scale = verifier.noise[0][output], float(np.abs(value).max())
        assert CHAOTIC_FACTOR * noise.peak <= CAP * scale, (output, noise.peak, scale)


# --- rounding: bugs do not -------------------------------------------------------------------------------------------------------------------------


CONV_BUGS = {
    "one channel 1 % off": ("w3", channel(1.01)),
    "one channel 0.1 % off": ("w3", channel(1.001)),
    "a bias of 1e-3 missing": ("b3", channel(1.0, 1e-3)),
    "last layer's channel 0.1 % off": ("head", channel(1.001, axis=1)),
    "a channel swapped with its neighbour": ("w2", lambda w: w[[1, 0, *range(2, len(w))]]),
    "a kernel transposed": ("w4", lambda w: w.transpose(0, 1, 3, 2)),
    "the variance not rooted": ("v2", lambda v: v**2),
    "everything 0.01 % off": ("head", lambda w: w * np.float32(1.0001)),
}


@pytest.mark.parametrize("bug", CONV_BUGS, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_bug_in_a_convolutional_net_is_caught(bug: str, seed: int) -> None:
    assert made_verifier(convolutional, seed).check(with_weight(convolutional(seed), *CONV_BUGS[bug]), ROUNDING).broken


def test_another_epsilon_in_a_batch_normalization_is_caught() -> None:
    assert made_verifier(convolutional).check(convolutional(epsilon=1e-12), ROUNDING).broken


TRANSFORMER_BUGS = {
    "one column 1 % off": ("w_q1", channel(1.01, axis=1)),
    "one column 0.1 % off": ("w_i1", channel(1.001, axis=1)),
    "a bias of 1e-3 missing": ("b_i2", channel(1.0, 1e-3)),
    "attention scaled by 1/sqrt(7)": ("scale", lambda scale: np.float32(1 / np.sqrt(7))),
    "a mask that is not quite closed": ("big", lambda big: np.float32(-10)),
    "tanh's constant instead of erf's": ("root2", lambda root2: np.float32(1.41)),
    "a normalisation's gain forgotten": ("g_a1", lambda gain: np.ones_like(gain)),
    "one class 1 % off": ("w_logits", channel(1.01, axis=1)),
}


@pytest.mark.parametrize("bug", TRANSFORMER_BUGS, ids=str)
@pytest.mark.parametrize("soft", [False, True])
def test_a_bug_in_a_transformer_is_caught(bug: str, soft: bool) -> None:
    assert made_verifier(transformer, 0, soft).check(with_weight(transformer(soft=soft), *TRANSFORMER_BUGS[bug]), ROUNDING).broken


@pytest.mark.parametrize("seed", range(4))
def test_another_epsilon_in_a_layer_normalization_is_caught(seed: int) -> None:
    assert made_verifier(transformer, seed).check(transformer(seed, epsilon=1e-12, fused=True), ROUNDING).broken


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "kind", "operand", "axis", "scale", "shift", "place"),
    [
        ("mobilenetv2", "Conv", 1, 0, 1.01, 0, 0),
        ("mobilenetv2", "Conv", 1, 0, 1.01, 0, 1),
        ("mobilenetv2", "Conv", 2, 0, 1, 1e-3, 0.5),
        ("resnet8_cifar10", "Conv", 1, 0, 1.01, 0, 0.5),
        ("resnet8_cifar10", "Conv", 2, 0, 1, 1e-3, 1),
        ("llama_260k", "MatMul", 1, 1, 1.01, 0, 0),
        ("llama_260k", "MatMul", 1, 1, 1.01, 0, 0.5),
        ("charrnn_bronte", "LSTM", 1, 1, 1.01, 0, 1),
    ],
)
def test_one_channel_that_is_wrong_is_caught_in_real_models(
    shared: Path, name: str, kind: str, operand: int, axis: int, scale: float, shift: float, place: float
) -> None:
    """In the first channel of the layer that reaches the output on this input: some are dead behind a Relu."""
    model = real(shared, name)
    weights = [node.inputs[operand].name for node in model.graph if is_op(node, kind) and node.inputs[operand].is_initializer()]  # type: ignore[union-attr]
    target = weights[round(place * (len(weights) - 1))]
    verifier = Verifier(model, [sample for sample in samples_for(model) if not stress_of(sample).any][:1], Plain())
    for number in range(16):
        wrong = with_weight(model, target or "", channel(scale, shift, axis, number))
        moved = verifier.check(wrong, EXACT)
        if moved.broken and moved.max_abs > 3e-5 * float(np.abs(np.asarray(verifier.outputs(0)[moved.output])).max()):
            assert verifier.check(wrong, ROUNDING).broken
            return
    pytest.fail(f"no channel of {target} reaches the output")


# --- not a number, infinity ------------------------------------------------------------------------------------------------------------------------

ORDINARY, WITH_NAN, WITH_INF, LARGE = Stress(), Stress(nan=True), Stress(infinite=True), Stress(large=True)


@pytest.mark.parametrize(
    ("before", "after", "stress", "broken"),
    [
        (1.0, NAN, ORDINARY, True),
        (1.0, INF, ORDINARY, True),
        (NAN, 1.0, ORDINARY, True),
        (INF, 1.0, ORDINARY, True),
        (INF, NAN, ORDINARY, True),
        (INF, INF, ORDINARY, False),
        (NAN, 1.0, WITH_NAN, True),
        (1.0, NAN, WITH_NAN, True),
        (INF, NAN, WITH_INF, False),
        (NAN, -INF, WITH_INF, False),
        (INF, -INF, WITH_INF, True),
        (INF, 1.0, WITH_INF, True),
        (NAN, 1.0, WITH_INF, True),
        (1.0, NAN, WITH_INF, True),
        (INF, 1.0, LARGE, False),
        (NAN, 1.0, LARGE, False),
        (1.0, INF, LARGE, True),
        (1.0, NAN, LARGE, True),
        (NAN, INF, ORDINARY, False),
        (INF, NAN, ORDINARY, True),
        (INF, 3.3e38, ORDINARY, False),
        (-INF, 3.3e38, ORDINARY, True),
        (0.0, -0.0, ORDINARY, False),
    ],
)
def test_where_rounding_may_move_nan_and_infinity(before: float, after: float, stress: Stress, broken: bool) -> None:
    pair = [{"y": np.float32([0.5, value, -2.0])} for value in (before, after)]
    assert compare(*pair, ROUNDING, stress=stress).broken is broken


def test_where_the_noise_run_moves_nan_nothing_is_asked() -> None:
    before, run = np.float32([1, INF, 2]), np.float32([1, NAN, 2])
    noise = {"y": measure(before, [run, run])}
    assert not compare({"y": before}, {"y": np.float32([1, 7, 2])}, ROUNDING, noise=noise).broken
    assert compare({"y": before}, {"y": np.float32([1, 7, 2.1])}, ROUNDING, noise=noise).broken


def test_domain_rewrites_are_only_held_to_what_was_defined() -> None:
    before = {"y": np.float32([NAN, INF, 2])}
    assert not compare(before, {"y": np.float32([1, 2, 2])}, DOMAIN).broken
    assert compare(before, {"y": np.float32([1, 2, NAN])}, DOMAIN).broken
    assert compare(before, {"y": np.float32([1, 2, 2.1])}, DOMAIN).broken


def test_lossy_rewrites_are_only_held_to_shape_dtype_and_finiteness() -> None:
    before = {"y": np.float32([1, 2])}
    assert not compare(before, {"y": np.float32([7, -2])}, LOSSY).broken
    assert compare(before, {"y": np.float32([7, NAN])}, LOSSY).broken
    assert compare(before, {"y": np.float32([7])}, LOSSY).broken


def test_overflowing_samples_hold_only_exact_rewrites_to_numbers() -> None:
    before, after = {"y": np.float32([0, 1])}, {"y": np.float32([0.5, 1])}
    assert not compare(before, after, ROUNDING, stress=Stress(large=True, overflowing=True)).broken
    assert compare(before, after, EXACT, stress=Stress(large=True, overflowing=True)).broken


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([1.0, -2.0], Stress()),
        ([NAN], Stress(nan=True)),
        ([INF], Stress(infinite=True)),
        ([-2e3], Stress(large=True)),
        ([1e20], Stress(large=True, overflowing=True)),
        ([], Stress()),
    ],
)
def test_the_stress_of_a_sample_is_seen(numbers: list[float], expected: Stress) -> None:
    assert stress_of({"x": np.float32(numbers), "i": np.int64([10**12])}) == expected
    assert stress_of({"x": [np.float32([0]), np.float32(numbers)], "none": None}) == expected


def test_16_bit_inputs_overflow_early() -> None:
    assert stress_of({"x": np.float16([300])}) == Stress(large=True, overflowing=True)


def test_folding_with_infinite_and_nan_inputs_moves_nothing() -> None:
    model, folded = convolutional(), convolutional(fold=True)
    wild = [sample for sample in samples_for(model) if stress_of(sample).nan or stress_of(sample).infinite]
    assert len(wild) >= 2
    assert not Verifier(model, wild, Plain()).check(folded, ROUNDING).broken


def test_a_rewrite_that_loses_nan_is_caught() -> None:
    model = model_of("g (float[N,4] x) => (float[N,4] y) { y = Mul(x, x) }")
    losing = model_of("g (float[N,4] x, float o) => (float[N,4] y) { b = IsNaN(x) n = Where(b, o, x) y = Mul(n, n) }", o=np.float32(1))
    assert verifier_of(model).check(losing, ROUNDING).broken


# --- mixed scales, integers, quantisation --------------------------------------------------------------------------------------------------------


def boxes_and_scores(score: np.ndarray) -> ir.Model:
    """Columns 0..3 are boxes of hundreds of pixels, column 4 is a small score."""
    rng = np.random.default_rng(3)
    scale = np.array([640, 640, 640, 640, 1], np.float32)
    w = rng.standard_normal((16, 5)).astype(np.float32)
    w[:, 4] *= score
    return model_of("g (float[64,16] x, float[16,5] w, float[5] s) => (float[64,5] y) { m = MatMul(x, w) t = Sigmoid(m) y = Mul(t, s) }", w=w, s=scale)


def test_a_small_output_beside_a_large_one_is_held_to_its_own_scale() -> None:
    model = boxes_and_scores(np.float32(1))
    assert verifier_of(model).check(boxes_and_scores(np.float32(1.0001)), ROUNDING).broken


def test_a_small_probability_is_held_to_its_own_size() -> None:
    weights = {"w": np.random.default_rng(5).standard_normal((8, 40)).astype(np.float32) * 3, "b": np.zeros(40, np.float32)}
    text = "g (float[N,8] x, float[8,40] w, float[40] b) => (float[N,40] y) { m = MatMul(x, w) a = Add(m, b) y = Softmax<axis=-1>(a) }"
    model = model_of(text, **weights)
    samples = [sample for sample in samples_for(model) if not stress_of(sample).any][:1]
    verifier = Verifier(model, samples, Plain())
    rare = int(np.argmin(np.asarray(verifier.outputs(0)["y"]).max(axis=0)))
    assert np.asarray(verifier.outputs(0)["y"])[:, rare].max() < 1e-4
    assert verifier.check(with_weight(model, "b", channel(1, 1e-3, place=rare)), ROUNDING).broken


def test_integers_must_be_equal_where_rounding_does_not_flip_them() -> None:
    before = np.arange(100)
    noise = {"y": measure(before, [np.where(before == 7, 8, before)])}
    for changed, broken in (([], False), ([7], False), ([7, 9], False), ([9, 11, 13], True)):
        after = before.copy()
        after[changed] += 1
        assert compare({"y": before}, {"y": after}, ROUNDING, noise=noise).broken is broken
    assert compare({"y": before}, {"y": before + (before == 3)}, ROUNDING).broken


def test_a_quantised_number_may_flip_by_a_step_but_not_jump() -> None:
    before = np.arange(200).astype(np.uint8)
    noise = {"y": measure(before, [before + (before == 50), before + (before == 90)])}
    one, far = before.copy(), before.copy()
    one[60] += 1
    far[60] += 9
    assert not compare({"y": before}, {"y": one}, ROUNDING, noise=noise).broken
    assert compare({"y": before}, {"y": far}, ROUNDING, noise=noise).broken


def quantised(shift: float = 0.0) -> ir.Model:
    rng = np.random.default_rng(1)
    return model_of(
        "g (float[8,32] x, float[32,64] w, float[64] b, float s, uint8 z) => (float[8,64] y)"
        " { m = MatMul(x, w) a = Add(m, b) q = QuantizeLinear(a, s, z) d = DequantizeLinear(q, s, z) y = Sigmoid(d) }",
        w=rng.standard_normal((32, 64)).astype(np.float32),
        b=(rng.standard_normal(64) + shift).astype(np.float32),
        s=np.float32(0.05),
        z=np.uint8(128),
    )


def test_a_bug_before_a_quantisation_is_caught() -> None:
    model = quantised()
    verifier = verifier_of(model)
    assert not verifier.check(clone_model(model), ROUNDING).broken
    assert verifier.check(quantised(shift=0.02), ROUNDING).broken


def test_chaos_is_not_taken_for_a_bug_nor_a_bug_for_chaos() -> None:
    """The logistic map doubles an error with every step: after 12 of them rounding shows, after 40 nothing else is left."""

    def logistic(steps: int, order: str, rate: float = 3.99) -> ir.Model:
        lines, before = [], "x"
        for place in range(steps):
            first, second = ("r", f"i{place}") if order == "left" else (f"i{place}", "r")
            lines.append(f"i{place} = Sub(o, {before}) a{place} = Mul({first}, {before}) n{place} = Mul(a{place}, {second})")
            before = f"n{place}"
        text = f"g (float[50,20] x, float r, float o) => (float[50,20] y) {{ {' '.join(lines)} y = Identity({before}) }}"
        return model_of(text, r=np.float32(rate), o=np.float32(1))

    sample = {"x": np.random.default_rng(0).random((50, 20), dtype=np.float32)}
    for steps in (12, 40):
        verifier = Verifier(logistic(steps, "left"), [sample], Plain())
        assert not verifier.check(logistic(steps, "right"), ROUNDING).broken
    verifier = Verifier(logistic(12, "left"), [sample], Plain())
    assert verifier.check(logistic(12, "right", rate=3.9901), ROUNDING).broken


# --- the verifier ------------------------------------------------------------------------------------------------------------------------------------


def test_a_candidate_that_does_not_load_or_run_is_broken() -> None:
    model = model_of("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    unknown = model_of("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    next(iter(unknown.graph)).op_type = "NoSuchOperator"
    frozen = model_of("g (float[3,4] x) => (float[3,4] y) { y = Relu(x) }")
    verifier = Verifier(model, [{"x": np.ones((2, 4), np.float32)}], Plain())
    assert "refuses" in verifier.check(unknown, ROUNDING).reason
    assert "fails" in verifier.check(frozen, EXACT).reason


def test_there_must_be_a_sample_that_the_model_takes() -> None:
    model = model_of("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    with pytest.raises(InputError, match="example inputs"):
        Verifier(model, [], Plain())
    with pytest.raises(InputError):
        Verifier(model, [{"z": np.ones(3, np.float32)}], Plain())


def test_exact_is_judged_against_what_was_accepted_last() -> None:
    model, folded = convolutional(), convolutional(fold=True)
    verifier = verifier_of(model)
    assert verifier.check(folded, EXACT).broken
    assert not verifier.check(folded, ROUNDING).broken
    verifier.accept()
    assert not verifier.check(clone_model(folded), EXACT).broken
    assert verifier.check(model, EXACT).broken
    assert not verifier.check_against(model, clone_model(model)).broken


def test_a_model_that_draws_random_numbers_can_be_verified() -> None:
    text = "g (float[4,8] x) => (float[4,8] y) { r = RandomNormalLike(x) s = RandomUniformLike(x) a = Add(x, r) y = Mul(a, s) }"
    model = model_of(text)
    verifier = verifier_of(model)
    assert verifier.repeatable
    assert not verifier.check(clone_model(model), EXACT).broken
    assert verifier.check(model_of(text.replace("s = RandomUniformLike(x) a = Add(x, r) y = Mul(a, s)", "a = Add(x, r) y = Mul(a, r)")), ROUNDING).broken


def test_16_bit_models_are_held_to_rounding_because_the_runtime_decides_where_it_rounds() -> None:
    rng = np.random.default_rng(0)
    weights = {f"w{place}": (rng.standard_normal((16, 16)) / 4).astype(np.float16) for place in range(3)}
    declared = "float16[N,16] x, float16[16,16] w0, float16[16,16] w1, float16[16,16] w2"
    plain = model_of(f"g ({declared}) => (float16[N,16] y) {{ a = MatMul(x, w0) b = MatMul(a, w1) y = MatMul(b, w2) }}", **weights)
    longer = model_of(
        f"g ({declared}) => (float16[N,16] y) {{ a = MatMul(x, w0) i = Identity(a) b = MatMul(i, w1) j = Identity(b) y = MatMul(j, w2) }}", **weights
    )
    verifier = verifier_of(longer)
    assert not verifier.check(plain, EXACT).broken
    assert verifier.check(with_weight(plain, "w1", channel(1.1, axis=1)), EXACT).broken


def test_large_outputs_wait_on_disk() -> None:
    model = model_of("g (float[N,1024] x) => (float[N,1024] y) { y = Neg(x) }")
    sample = {"x": np.random.default_rng(0).standard_normal((5000, 1024)).astype(np.float32)}
    verifier = Verifier(model, [sample], Plain())
    assert isinstance(verifier.outputs(0)["y"], np.memmap)
    assert not verifier.check(clone_model(model), EXACT).broken
    scaled = model_of("g (float[N,1024] x, float k) => (float[N,1024] y) { z = Neg(x) y = Mul(z, k) }", k=np.float32(1.001))
    assert verifier.check(scaled, ROUNDING).broken


def test_sizes_that_a_model_computes_in_floats_are_not_disturbed_by_the_noise() -> None:
    text = (
        "g (float[1,2,H,W] x, float[2] f, float[2] t) => (float[1,2,A,B] y) { s = Shape<start=2>(x) c = Cast<to=1>(s) m = Mul(c, f) d = Div(m, c)"
        ' k = Concat<axis=0>(t, d) y = Resize<mode="linear">(x, , k) }'
    )
    model = model_of(text, f=np.float32([7 / 3, 7 / 3]), t=np.float32([1, 1]))
    verifier = Verifier(model, [{"x": np.random.default_rng(0).standard_normal((1, 2, 9, 9)).astype(np.float32)}], Plain())
    assert verifier.noise[0]["y"].comparable and verifier.noise[0]["y"].peak < 1e-4


def test_noise_of_whole_numbers_is_nothing() -> None:
    """Counting in floats is exact, so a rewrite that miscounts has no excuse."""
    model = model_of("g (int64[N] x, int64[1] a) => (float y) { f = Cast<to=1>(x) e = Mul(f, f) y = ReduceSum<keepdims=0>(e, a) }", a=np.array([0]))
    verifier = Verifier(model, [{"x": np.arange(30)}], Plain())
    assert verifier.noise[0]["y"] == Noise(typical=0.0, typical_rms=0.0, peaks=(), peak=0.0, relative=verifier.noise[0]["y"].relative)


def test_an_element_that_was_lucky_in_two_draws_is_not_held_to_its_luck() -> None:
    """Sums that nearly cancel: which few digits are left depends on the order, whatever two roundings happened to do."""
    text = "g (float[1,6] x, float[6,2] w, float[2] b) => (float[1,2] y) {{ {} }}"
    rng = np.random.default_rng(5)
    for _ in range(40):
        w, x = rng.standard_normal((6, 2)).astype(np.float32), rng.standard_normal((1, 6)).astype(np.float32)
        b = -(x.astype(np.float64) @ w.astype(np.float64))[0].astype(np.float32) * np.float32(1 + 2e-5)
        one = model_of(text.format("m = MatMul(x, w) y = Add(m, b)"), w=w, b=b)
        other = model_of(text.format("y = Gemm(x, w, b)"), w=w, b=b)
        assert not Verifier(one, [{"x": x}], Plain()).check(other, ROUNDING).broken
