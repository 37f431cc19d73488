"""What rounding rewrites may change, and the bugs that must be caught among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.drift import EXACT, ROUNDING
from graphwright.compiler.core.graph import bind_opsets, clone_model, is_op
from graphwright.compiler.tolerance import CAP, CHAOTIC_FACTOR, stress_of
from graphwright.compiler.verify import Verifier

from .verifying import Fast, Plain, channel, convolutional, made_verifier, samples_for, transformer, with_weight

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
