"""Verifiers, and models with planted bugs, that the tests of the verifier share."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from graphwright.backends.ort.reference import open_reference
from graphwright.compiler.core.backend import Runner
from graphwright.compiler.core.graph import bind_opsets, clone_model
from graphwright.compiler.samples import generate
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
