"""Models that draw random numbers, made to draw the same ones each time."""

from __future__ import annotations

import zlib

import onnx_ir as ir

from .core.graph import all_graphs, clone_model, is_op

_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")


def draws(node: ir.Node) -> bool:
    """Whether the node makes random numbers; a Dropout does only when it may be told to train."""
    return is_op(node, *_RANDOM) or (is_op(node, "Dropout") and len(node.inputs) > 2 and node.inputs[2] is not None)


def seeded(model: ir.Model) -> ir.Model:
    """A copy whose random operators all have a seed, by where they stand, so that two models draw the same numbers in the same order."""
    copy = clone_model(model)
    for graph in all_graphs(copy):
        for node in graph:
            if draws(node):
                number = zlib.crc32((node.outputs[0].name or "").encode()) % 1_000_003
                kind = ir.AttrInt64 if is_op(node, "Dropout") else ir.AttrFloat32
                node.attributes["seed"] = kind("seed", number)
    return copy
