"""Models whose weights have a rank of two: factorised to it they must answer as before."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.compiler.core.sites import all_sites, fold_matrices

from ..prune.pruned_models import model_of

TRUE_RANK = 2
CLEAN = "inline-functions,constants-to-initialisers,{},eliminate-dead-code"


def low_rank_model(text: str, dtype: ir.DataType = ir.DataType.FLOAT, seed: int = 0) -> ir.Model:
    """A model from ONNX text; the weights of its sites, inputs with capital letters, have rank two in every group. Its floats become ``dtype``."""
    model = model_of(text, seed=seed)
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        if value.dtype == ir.DataType.FLOAT:
            value.dtype = dtype
            if value.const_value is not None:
                value.const_value = ir.tensor(value.const_value.numpy().astype(dtype.numpy()), name=value.name)
    rng = np.random.default_rng(seed)
    for site in all_sites(model):
        groups, inputs, outputs = site.matrices().shape
        matrices = rng.normal(size=(groups, inputs, TRUE_RANK)) @ rng.normal(size=(groups, TRUE_RANK, outputs)) / np.sqrt(inputs)
        site.weight.const_value = ir.tensor(fold_matrices(matrices, site).astype(site.weight.dtype.numpy()), name=site.weight.name)  # type: ignore[union-attr]
    return model


def factorised(model: ir.Model, text: str, data: list[dict[str, np.ndarray]] | None = None, context: Context | None = None) -> tuple[ir.Model, Context]:
    """A copy after these passes, and what they were told and wrote down."""
    copy = clone_model(model)
    context = context or Context(calibrator=None if data is None else Engine(open_calibration(data, copy), OrtBackend()))
    for step in parse_pipeline(CLEAN.format(text)):
        step.run(copy, context)
    return copy, context


def numbers(model: ir.Model) -> int:
    """How many float numbers its initialisers hold."""
    return sum(int(np.prod(value.shape.numpy())) for value in model.graph.initializers.values() if value.dtype == ir.DataType.FLOAT)  # type: ignore[union-attr]
