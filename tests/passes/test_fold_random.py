"""Random arithmetic on shapes folds into a model that gives the same bits at every size that the first one runs at."""

from __future__ import annotations

import random

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.errors import ModelError
from graphwright.compiler.core.graph import bind_opsets, clone_model
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.shapes import forget_ours
from graphwright.compiler.core.wellformed import check
from graphwright.passes.fold.constants import FoldConstants
from graphwright.passes.fold.shapes import FoldShapes

DATA = {"x": 3, "z": 2, "w": 3}
SIZES = ((2, 3, 4), (1, 1, 1), (0, 3, 1), (3, 0, 2), (1, 2, 1), (2, 1, 2), (4, 4, 4), (1, 0, 3))


class Program:
    """A model that computes on the shapes of its inputs, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.lines: list[str] = []
        self.constants: list[str] = []
        self.vectors: list[tuple[str, int]] = []
        for name, rank in DATA.items():
            self.add(f"Shape({name})", rank)
        for _ in range(self.draw.randint(3, 10)):
            self.step(*self.draw.choice(self.vectors))
        self.outputs = [self.use(index) for index in range(self.draw.randint(1, 2))]

    def constant(self, *numbers: int) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(f"int64[{len(numbers)}] {name} = {{{','.join(map(str, numbers))}}}")
        return name

    def add(self, call: str, length: int | None) -> str:
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {call}")
        if length is not None:
            self.vectors.append((name, length))
        return name

    def step(self, vector: str, length: int) -> None:
        """One more vector, made from another."""
        kind = self.draw.choice(("Gather", "Slice", "Concat", "Where", "Cast", "Total", "Add", "Sub", "Mul", "Div", "Mod", "Max", "Min"))
        if kind == "Gather":
            picks = [self.draw.randrange(-length, length) for _ in range(self.draw.randint(1, 3))]
            self.add(f"Gather({vector}, {self.constant(*picks)})", len(picks))
        elif kind == "Slice":
            start = self.draw.randrange(length)
            self.add(f"Slice({vector}, {self.constant(start)}, {self.constant(2**63 - 1)})", length - start)
        elif kind == "Concat" and length < 4:
            self.add(f"Concat<axis=0>({vector}, {self.constant(self.draw.choice((-1, 0, 1, 2, 4)))})", length + 1)
        elif kind == "Where":
            choice = self.add(f"Equal({vector}, {self.constant(self.draw.choice((-1, 0, 1, 3)))})", None)
            self.add(f"Where({choice}, {self.constant(*[1] * length)}, {vector})", length)
        elif kind == "Cast":
            self.add(f"Cast<to=7>({self.add(f'Cast<to=6>({vector})', None)})", length)
        elif kind == "Total":
            self.add(f"ReduceProd<keepdims=1>({vector})", 1)
        elif kind not in ("Gather", "Slice", "Concat"):
            others = [name for name, size in self.vectors if size in (1, length)]
            self.add(f"{kind}({vector}, {self.draw.choice([*others, self.constant(self.draw.randint(1, 3))])})", length)

    def use(self, index: int) -> str:
        """An output that is shaped by a vector."""
        data, other = self.draw.choice(list(DATA)), self.draw.choice(list(DATA))
        vector, length = self.draw.choice(self.vectors if self.draw.random() < 0.6 else self.vectors[: len(DATA)])
        kind = self.draw.choice(("Reshape", "Reshape", "Rest", "Expand", "Spread", "Fill", "Cut"))
        call = f"Reshape<allowzero={self.draw.choice((0, 0, 1))}>({data}, {vector})"
        if kind == "Rest":
            call = f"Reshape({data}, {self.add(f'Concat<axis=0>({vector}, {self.constant(self.draw.choice((-1, 1, 2)))})', None)})"
        elif kind == "Expand":
            call = f"Expand({data}, {vector})"
        elif kind == "Spread":
            call = f"Add({self.add(f'Expand({data}, {vector})', None)}, {other})"
        elif kind == "Fill":
            call = f"Mul({self.add(f'ConstantOfShape({vector})', None)}, {other})"
        elif kind == "Cut" and length == 1:
            call = f"Slice({data}, {self.constant(self.draw.choice((0, 1, -1)))}, {vector})"
        self.lines.append(f"y{index} = {call}")
        return f"y{index}"

    def model(self) -> ir.Model:
        """The program, its outputs of any rank."""
        outputs = ", ".join(f"float {name}" for name in self.outputs)
        constants = ", ".join(self.constants) or "int64[1] unused = {1}"
        body = "\n".join(self.lines)
        model = ir.from_onnx_text(
            f'<ir_version: 10, opset_import: ["" : 21]>\ng (float[N,M,4] x, float[M,N] z, float[N,K,2] w) => ({outputs}) <{constants}> {{ {body} }}'
        )
        for value in model.graph.outputs:
            value.shape = None
        bind_opsets(model)
        return model


def feeds(n: int, m: int, k: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(n + 10 * m + 100 * k)
    return {name: draw.standard_normal(shape).astype(np.float32) for name, shape in (("x", (n, m, 4)), ("z", (m, n)), ("w", (n, k, 2)))}


@pytest.mark.parametrize("block", range(4))
def test_random_shape_arithmetic_folds_to_the_same_bits(block: int, run_onnx, assert_same_bits) -> None:
    ran = 0
    for seed in range(40 * block, 40 * block + 40):
        model = Program(seed).model()
        before = clone_model(model)
        expected = {size: outputs for size in SIZES if (outputs := _outputs(before, size, run_onnx)) is not None}
        try:
            for step in (FoldShapes(), FoldConstants(), FoldShapes()):
                step.run(model, Context())
                check(model)
        except ModelError:
            assert not expected, f"seed {seed} runs, and is called contradictory"
            continue
        forget_ours(model)
        for size, outputs in expected.items():
            assert_same_bits(outputs, run_onnx(model, feeds(*size)))
            ran += 1
    assert ran > 40, "too few of the programs run at all"


def _outputs(model: ir.Model, size: tuple[int, int, int], run_onnx) -> dict[str, object] | None:
    try:
        return run_onnx(model, feeds(*size))
    except Exception:
        return None
