"""A small pass that compresses, and models to compress: what the flow does must not depend on any real method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import onnx_ir as ir

from graphwright.compiler.core.drift import LOSSY, Drift
from graphwright.compiler.core.graph import make_constant
from graphwright.compiler.core.passes import Context, Pass
from graphwright.compiler.core.sites import Site, all_sites

WIDTH = 16


@dataclass(frozen=True)
class RoundWeights(Pass):
    """Stores the weight of every MatMul in 8-bit codes of fewer ``bits``, one scale for all of it."""

    name: ClassVar[str] = "round-weights"
    drift: ClassVar[Drift] = LOSSY

    bits: int = 8
    keep: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    spoil: str = ""
    """The site that is rounded to two steps whatever ``bits`` says: one that minds."""

    def run(self, model: ir.Model, context: Context) -> int:
        """As `Pass.run`."""
        return sum(self._round(site, context) for site in list(all_sites(model)) if not self.only or site.name in self.only)

    def _round(self, site: Site, context: Context) -> bool:
        if site.name in self.keep:
            context.coverage.leave(site, "it was asked to stay")
            return False
        if min(site.shape) < 2:
            context.coverage.leave(site, f"its weight has only {min(site.shape)} row or column")
            return False
        if not context.ledger.permit(self.name, site.name):
            return False
        bits = 2 if site.name == self.spoil else self.bits
        context.coverage.take(site, f"int{bits}", float(bits), "rtn")
        weight = site.weight.const_value.numpy()  # type: ignore[union-attr]
        scale = np.float32(np.abs(weight).max() / (2 ** (bits - 1) - 1))
        codes = np.clip(np.rint(weight / scale), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1).astype(np.int8)
        graph = site.node.graph
        assert graph is not None
        held = [make_constant(graph, array, f"{site.name}_{name}") for name, array in (("codes", codes), ("scale", np.array(scale)))]
        node = ir.Node("", "DequantizeLinear", held, name=f"{site.name}_decode")
        node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = f"{site.name}_weight", site.weight.type, site.weight.shape
        graph.insert_before(site.node, node)
        site.node.replace_input_with(site.weight_at, node.outputs[0])
        return True


def mlp(seed: int = 0, layers: int = 4, classes: int = 10) -> onnx.ModelProto:
    """x [batch, 16] through layers of 16 to ``logits`` [batch, classes]; every site is called h0, h1, ... and logits."""
    rng = np.random.default_rng(seed)
    sizes = [WIDTH] * layers + [classes]
    names = [*(f"h{place}" for place in range(layers - 1)), "logits"]
    nodes, weights, value = [], [], "x"
    for name, rows, columns in zip(names, sizes, sizes[1:], strict=False):
        weights.append(onnx.numpy_helper.from_array((rng.standard_normal((rows, columns)) / rows**0.5).astype(np.float32), f"w_{name}"))
        nodes.append(onnx.helper.make_node("MatMul", [value, f"w_{name}"], [name]))
        value = name
        if name != "logits":
            nodes.append(onnx.helper.make_node("Relu", [name], [f"r_{name}"]))
            value = f"r_{name}"
    ports = [onnx.helper.make_tensor_value_info(name, 1, ["batch", size]) for name, size in (("x", WIDTH), ("logits", classes))]
    graph = onnx.helper.make_graph(nodes, "mlp", ports[:1], ports[1:], weights)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)


def rows(count: int = 64, seed: int = 1) -> np.ndarray:
    """Inputs of `mlp`."""
    return np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32)
