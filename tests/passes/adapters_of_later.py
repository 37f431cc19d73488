"""Models in later opsets: recurrent operators, clips, normalisations, resizes, experiments and scans."""

from __future__ import annotations

import numpy as np

from graphwright.passes.cleanup.opset_adapters.step import EXPERIMENTAL

from .adapter_case import Case


def recurrent() -> list[Case]:
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}
    cases = []
    for op, count in gates.items():
        rows = count * 2
        weights = f"float[1,{rows},3] w, float[1,{rows},2] r, float[1,{2 * rows}] b"
        text = f"(float[4,2,3] x, {weights}) => (float y, float h) {{ y, h = {op}<hidden_size=2, output_sequence=1>(x, w, r, b) }}"
        cases.append(Case(op, 7, text, {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}[op]))
    text = "(float[4,2,3] x, float[1,6,3] w, float[1,6,2] r, float[1,12] b) => (float y, float h) "
    cases.append(Case("GRU", 3, text + '{ y, h = GRU<hidden_size=2, direction="foward">(x, w, r, b) }', lambda x, w, r, b: _gru(x, w, r, b)))
    return cases


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _rnn(x: np.ndarray, w: np.ndarray, r: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    state, states = np.zeros((2, 2), np.float32), []
    for now in x:
        state = np.tanh(now @ w[0].T + state @ r[0].T + b[0, :2] + b[0, 2:])
        states.append(state)
    return np.array(states)[:, None], state[None]


def _gru(x: np.ndarray, w: np.ndarray, r: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    state, states = np.zeros((2, 2), np.float32), []
    (wz, wr, wh), (rz, rr, rh), (bz, br, bh, cz, cr, ch) = np.split(w[0], 3), np.split(r[0], 3), np.split(b[0], 6)
    for now in x:
        update = _sigmoid(now @ wz.T + state @ rz.T + bz + cz)
        reset = _sigmoid(now @ wr.T + state @ rr.T + br + cr)
        new = np.tanh(now @ wh.T + (reset * state) @ rh.T + ch + bh)
        state = (1 - update) * new + update * state
        states.append(state)
    return np.array(states)[:, None], state[None]


def _lstm(x: np.ndarray, w: np.ndarray, r: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    state, cell, states = np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32), []
    for now in x:
        gates = now @ w[0].T + state @ r[0].T + b[0, :8] + b[0, 8:]
        i, o, f, c = (gates[:, start : start + 2] for start in range(0, 8, 2))
        cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(c)
        state = _sigmoid(o) * np.tanh(cell)
        states.append(state)
    return np.array(states)[:, None], state[None]


def clips() -> list[Case]:
    extremes = np.array([np.inf, -np.inf, np.nan, 60000, -60000, 0.5], np.float16)
    return [
        Case("Clip", 11, "(float[3,4] x) => (float y) { y = Clip<min=0.0, max=6.0>(x) }"),
        Case("Clip", 11, "(float[3,4] x) => (float y) { y = Clip<min=0.1>(x) }"),
        Case("Clip", 11, "(float[3,4] x) => (float y) { y = Clip<max=-0.0>(x) }"),
        Case("Clip", 11, "(float[3,4] x) => (float y) { y = Clip(x) }"),
        *(
            Case("Clip", 11, f"(float16[6] x) => (float16 y) {{ y = Clip{bounds}(x) }}", feeds={"x": extremes})
            for bounds in ("", "<min=0.1>", "<max=100000.0>", "<min=-1.0, max=0.3>")
        ),
        *(
            Case("Clip", 12, f"(float16[6] x, float16 b) => (float16 y) {{ y = Clip(x{bound}) }}", feeds={"x": extremes, "b": np.array(0.25, np.float16)})
            for bound in ("", ", b", ", , b", ", b, b")
        ),
    ]


def normalisations() -> list[Case]:
    per_channel = "float[3] s, float[3] b, float[3] m, float[3] v"
    per_activation = "float[3,2,2] s, float[3,2,2] b, float[3,2,2] m, float[3,2,2] v"
    variance = {"v": np.array([0.5, 1, 2], np.float32)}
    many = {"v": np.linspace(0.1, 2, 12, dtype=np.float32).reshape(3, 2, 2)}

    def normalise(x: np.ndarray, s: np.ndarray, b: np.ndarray, m: np.ndarray, v: np.ndarray) -> np.ndarray:
        s, b, m, v = (item.reshape(3, 1, 1) for item in (s, b, m, v))
        return (x - m) / np.sqrt(v + 1e-5) * s + b

    head = f"(float[2,3,2,2] x, {per_channel}) => (float y) "
    return [
        Case("BatchNormalization", 6, head + "{ y = BatchNormalization<consumed_inputs=[0,0,0,1,1], is_test=1>(x, s, b, m, v) }", normalise, variance),
        Case("BatchNormalization", 7, head + "{ y = BatchNormalization<is_test=1, momentum=0.5>(x, s, b, m, v) }", normalise, variance),
        Case("BatchNormalization", 9, head + "{ y = BatchNormalization<spatial=1>(x, s, b, m, v) }", feeds=variance),
        Case(
            "BatchNormalization",
            9,
            f"(float[2,3,2,2] x, {per_activation}) => (float y) {{ y = BatchNormalization<spatial=0, epsilon=0.01>(x, s, b, m, v) }}",
            feeds=many,
        ),
        Case("BatchNormalization", 14, head + "{ y = BatchNormalization<epsilon=0.001>(x, s, b, m, v) }", feeds=variance),
        Case("GroupNormalization", 21, "(float[2,6,3] x, float[2] s, float[2] b) => (float y) { y = GroupNormalization<num_groups=2>(x, s, b) }"),
        Case("GroupNormalization", 21, "(float[N,C,4] x, float[3] s, float[3] b) => (float y) { y = GroupNormalization<num_groups=3>(x, s, b) }"),
        Case(
            "GroupNormalization", 21, "(float[2,6,3] x) => (float y) <float[2] s={1.5,2}, float[2] b={-1,3}> { y = GroupNormalization<num_groups=2>(x, s, b) }"
        ),
        Case(
            "GroupNormalization",
            21,
            "(float16[2,6,3] x, float16[2] s, float16[2] b) => (float16 y) { y = GroupNormalization<num_groups=2>(x, s, b) }",
            rounds=True,
        ),
        Case("GroupNormalization", 21, "(double[2,6,3] x, double[2] s, double[2] b) => (double y) { y = GroupNormalization<num_groups=2>(x, s, b) }"),
        Case("Dropout", 7, "(float[3,4] x) => (float y) { y = Dropout<is_test=1>(x) }", lambda x: x),
        Case("Dropout", 10, "(float[3,4] x) => (float y, float m) { y, m = Dropout(x) }"),
        Case("Dropout", 10, "(double[3,4] x) => (double z) { y, m = Dropout(x) z = Add(y, m) }"),
        Case("Dropout", 12, "(float[3,4] x) => (float y, bool m) { y, m = Dropout<ratio=0.9>(x) }"),
        Case("Dropout", 12, "(float[3,4] x) => (float y) { y, m = Dropout<ratio=0.9>(x) }"),
    ]


def resizes() -> list[Case]:
    image = "(float[1,2,4,6] x) => (float y) "
    scales = ("1,1,2,2", "1,1,0.5,0.5", "1,1,0.6,0.3", "1,1,2.5,0.4", "1,1,1.5,1.7")
    cases = [Case("Upsample", 7, image + f"{{ y = Upsample<height_scale=2.0, width_scale=3.0{mode}>(x) }}", _enlarged) for mode in ("", ', mode="nearest"')]
    cases += [Case("Upsample", 7, image + '{ y = Upsample<height_scale=1.0, width_scale=2.0, mode="bilinear">(x) }', _widened)]
    cases += [
        Case("Upsample", 9, image + f'{{ y = Upsample<scales=[{factors}], mode="{mode}">(x) }}')
        for factors in ("1.0,1.0,2.0,2.0", "1.0,1.0,1.5,2.7")
        for mode in ("nearest", "linear")
    ]
    for mode in ("nearest", "linear"):
        cases.append(Case("Upsample", 10, image + f'<float[4] s={{1,1,2,3}}> {{ y = Upsample<mode="{mode}">(x, s) }}'))
        cases.append(
            Case(
                "Upsample",
                10,
                f'(float[1,2,4,6] x, float[4] s) => (float y) {{ y = Upsample<mode="{mode}">(x, s) }}',
                feeds={"s": np.array([1, 1, 1.6, 2.2], np.float32)},
            )
        )
        for factors in scales:
            cases.append(Case("Resize", 11, image + f'<float[4] s={{{factors}}}> {{ y = Resize<mode="{mode}">(x, s) }}'))
            held = np.array([float(item) for item in factors.split(",")], np.float32)
            cases.append(Case("Resize", 11, f'(float[1,2,4,6] x, float[4] s) => (float y) {{ y = Resize<mode="{mode}">(x, s) }}', feeds={"s": held}))
    empty = "<float[0] none={}, float[4] s={1,1,2,0.5}, int64[4] n={1,2,3,9}, float[8] r={0,0,0.1,0.2,1,1,0.8,1}>"
    for mode in ("nearest", "linear", "cubic"):
        cases += [
            Case("Resize", 13, image + empty + f'{{ y = Resize<mode="{mode}">(x, none, s) }}'),
            Case("Resize", 13, image + empty + f'{{ y = Resize<mode="{mode}", coordinate_transformation_mode="align_corners">(x, r, none, n) }}'),
            Case("Resize", 13, image + empty + f'{{ y = Resize<mode="{mode}", coordinate_transformation_mode="pytorch_half_pixel">(x, none, none, n) }}'),
        ]
    cases.append(
        Case(
            "Resize", 13, image + empty + '{ y = Resize<mode="linear", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=7.0>(x, r, s) }'
        )
    )
    return cases


def _enlarged(x: np.ndarray) -> np.ndarray:
    return x.repeat(2, 2).repeat(3, 3)


def _widened(x: np.ndarray) -> np.ndarray:
    right = np.concatenate([x[..., 1:], x[..., -1:]], -1)
    return np.stack([x, (x + right) / 2], -1).reshape(*x.shape[:-1], -1)


def experiments() -> list[Case]:
    image = "(float[2,3,5,6] x) => (float y) "
    texts = (
        ("Affine", "Affine<alpha=0.7, beta=-0.3>(x)"),
        ("Scale", "Scale<scale=0.7>(x)"),
        ("ImageScaler", "ImageScaler<bias=[0.5, -1.3, 2.0], scale=0.7>(x)"),
        ("ImageScaler", "ImageScaler<bias=[0.5, -1.3, 2.0]>(x)"),
        ("Crop", "Crop<border=[1, 2, 3, 0]>(x)"),
        ("Crop", "Crop<border=[1, 2, 1, 1], scale=[2, 3]>(x)"),
        ("ThresholdedRelu", "ThresholdedRelu<alpha=0.7>(x)"),
        ("ThresholdedRelu", "ThresholdedRelu(x)"),
        ("MeanVarianceNormalization", "MeanVarianceNormalization(x)"),
        ("MeanVarianceNormalization", "MeanVarianceNormalization<across_channels=1>(x)"),
    )
    rounding = (
        ("ScaledTanh", "ScaledTanh<alpha=0.7, beta=0.3>(x)"),
        ("ParametricSoftplus", "ParametricSoftplus<alpha=0.7, beta=0.3>(x)"),
        ("MeanVarianceNormalization", "MeanVarianceNormalization<normalize_variance=0>(x)"),
    )
    bounds = "<int64[1] s={1}, int64[1] e={-1}, int64[1] a={2}>"
    cases = [Case(op, EXPERIMENTAL, f"{image}{{ y = {call} }}", opset=7) for op, call in texts]
    cases += [Case(op, EXPERIMENTAL, f"{image}{{ y = {call} }}", opset=7, rounds=True) for op, call in rounding]
    return [*cases, Case("DynamicSlice", EXPERIMENTAL, f"{image}{bounds} {{ y = DynamicSlice(x, s, e, a) }}", opset=7)]


def scans() -> list[Case]:
    body = "body = step (float[2] before, float[2] now) => (float[2] after, float[2] seen) { after = Add(before, now) seen = Mul(after, now) }"
    head = "(float[3,2] start, float[3,5,2] x) => (float[3,2] end, float[3,5,2] all) "
    return [
        Case("Scan", 9, head + f"{{ end, all = Scan<num_scan_inputs=1, {body}>(, start, x) }}"),
        Case("Scan", 9, head + f"{{ end, all = Scan<num_scan_inputs=1, directions=[1], {body}>(, start, x) }}"),
    ]
