"""The program that an artifact for a GPU brings along: it needs numpy and apache-tvm."""

from __future__ import annotations

from collections.abc import Sequence

from ....compiler.core.backend import Port
from ....compiler.core.elements import ELEMENTS, parse_type

PROGRAM = '''\
"""Runs model.so on a GPU: python run.py [inputs.npz [outputs.npz]]. Without inputs, arrays of ones of the declared shapes (1 where a size is open) go in."""
import sys, pathlib, numpy as np, tvm
from tvm import relax
device = tvm.cuda(0)
if not device.exist: sys.exit("TVM finds no NVIDIA GPU here")
inputs, outputs = {inputs!r}, {outputs!r}
machine = relax.VirtualMachine(tvm.runtime.load_module(str(pathlib.Path(__file__).with_name("model.so"))), device)
feeds = dict(np.load(sys.argv[1])) if len(sys.argv) > 1 else {{name: np.ones(shape, dtype) for name, dtype, shape in inputs}}
made = machine["main"](*(tvm.runtime.tensor(np.ascontiguousarray(feeds[name]), device=device) for name, _, _ in inputs))
results = {{name: value.numpy() for name, value in zip(outputs, made)}}
if len(sys.argv) > 2: np.savez(sys.argv[2], **results)
else: print(*(f"{{name}} {{value.dtype}} {{value.shape}}\\n{{value}}" for name, value in results.items()), sep="\\n")
'''


def program(inputs: Sequence[Port], outputs: Sequence[Port]) -> str:
    """The text of ``run.py`` for a model with these inputs and outputs."""
    given = [(port.name, ELEMENTS[parse_type(port.dtype).element][1].name, [dim if isinstance(dim, int) else 1 for dim in port.shape or ()]) for port in inputs]
    return PROGRAM.format(inputs=given, outputs=[port.name for port in outputs])
