"""The program in Python that a library without a runtime brings along: it needs numpy, nothing else."""

from __future__ import annotations

PROGRAM = '''\
"""Runs model.so: python run.py [inputs.npz [outputs.npz]]. Without inputs, arrays of ones go in. GRAPHWRIGHT_THREADS says how many threads (1)."""
import ctypes as c, os, pathlib, sys, numpy as np

class Port(c.Structure):  # graphwright_port of graphwright.h
    _fields_ = [("name", c.c_char_p), ("dtype", c.c_char_p), ("rank", c.c_int64), ("shape", c.POINTER(c.c_int64)), ("bytes", c.c_size_t), ("data", c.c_void_p)]

library = c.CDLL(str(pathlib.Path(__file__).resolve().with_name("model.so")))
library.graphwright_open.restype, library.graphwright_error.restype = c.c_void_p, c.c_char_p
library.graphwright_inputs.restype = library.graphwright_outputs.restype = c.POINTER(Port)
model = c.c_void_p(library.graphwright_open(int(os.environ.get("GRAPHWRIGHT_THREADS", "1"))))
if not model: sys.exit("not enough memory for the model")
def arrays(ports):  # The model's own memory, seen by numpy.
    found = {}
    while (port := ports[len(found)]).name is not None:
        memory = (c.c_char * port.bytes).from_address(port.data)
        found[port.name.decode()] = np.frombuffer(memory, port.dtype.decode()).reshape([port.shape[axis] for axis in range(port.rank)])
    return found
inputs, outputs = arrays(library.graphwright_inputs(model)), arrays(library.graphwright_outputs(model))
given = dict(np.load(sys.argv[1])) if len(sys.argv) > 1 else {name: np.ones_like(array) for name, array in inputs.items()}
for name, array in inputs.items():
    if (given[name].dtype, given[name].shape) != (array.dtype, array.shape): sys.exit(f"the input {name} is {array.dtype} {array.shape}")
    array[...] = given[name]
if library.graphwright_run(model): sys.exit(library.graphwright_error().decode())
if len(sys.argv) > 2: np.savez(sys.argv[2], **outputs)
else: print(*(f"{name} {value.dtype} {value.shape}\\n{value}" for name, value in outputs.items()), sep="\\n")
'''
