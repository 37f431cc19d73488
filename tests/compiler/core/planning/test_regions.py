"""Deep-Fusion on exports: the four regions of a transformer layer (DeepSpeed Inference, figure 3)."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from graphwright.compiler.core.planning.plan import Block, Constraints
from graphwright.compiler.core.planning.planner import plan
from graphwright.compiler.core.shapes import infer_shapes
from graphwright.compiler.core.target import PORTABLE
from graphwright.compiler.importer import import_model
from graphwright.compiler.manager import Manager
from graphwright.compiler.pipeline import pipeline_for
from graphwright.models.tiny import Scale, Tiny, families

LAYERS = 3
PRODUCTS = {"MatMul", "Gemm"}


def exported(tiny: Tiny, folder: Path) -> ir.Model:
    """A family as torch exports it, after the passes of level 2."""
    model = import_model(tiny.export(folder, dynamic=False)).model
    Manager(PORTABLE).run(model, pipeline_for(PORTABLE, 2, "fp32"))
    infer_shapes(model)
    return model


def operators(block: Block) -> set[str]:
    return {node.op_type for node in block.nodes}


def feeds(block: Block, types: set[str], through: frozenset[str] = frozenset({"Reshape", "Transpose", "Split"})) -> bool:
    """Whether what a block makes flows into one of these operators, moved about on the way at most."""
    stack = [user for value in block.outputs for user, _ in value.uses() if user not in block.nodes]
    while stack:
        node = stack.pop()
        if node.op_type in types:
            return True
        if node.op_type in through:
            stack.extend(user for value in node.outputs for user, _ in value.uses())
    return False


@pytest.mark.parametrize("name", ["bert", "gpt2", "vit"])
def test_each_layer_has_its_four_regions(name: str, tmp_path: Path) -> None:
    (tiny,) = (tiny for tiny in families(Scale(layers=LAYERS)) if tiny.name == name)
    blocks = plan(exported(tiny, tmp_path), Constraints(deep=True)).blocks
    projections = [block for block in blocks if {"LayerNormalization"} | PRODUCTS & operators(block) <= operators(block) and feeds(block, {"Attention"})]
    projections = [block for block in projections if operators(block) & PRODUCTS and "Gelu" not in operators(block)]
    attention = [block for block in blocks if "Attention" in operators(block)]
    inner = [block for block in blocks if {"Add", "LayerNormalization", "Gelu"} <= operators(block) and operators(block) & PRODUCTS]
    residual = [block for block in blocks if {"Add", "LayerNormalization"} <= operators(block)]
    assert (len(projections), len(attention), len(inner)) == (LAYERS, LAYERS, LAYERS)
    assert len(residual) >= 2 * LAYERS
    assert not [block.title for block in blocks if operators(block) in ({"Add"}, {"LayerNormalization"}, {"Gelu"})]


def test_without_tiles_normalisation_and_product_stay_apart(tmp_path: Path) -> None:
    (tiny,) = (tiny for tiny in families(Scale(layers=1)) if tiny.name == "bert")
    blocks = plan(exported(tiny, tmp_path)).blocks
    assert not [block.title for block in blocks if "LayerNormalization" in operators(block) and operators(block) & PRODUCTS]
