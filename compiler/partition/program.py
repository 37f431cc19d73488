"""The program that an artifact of several parts brings along: it needs numpy, onnxruntime and apache-tvm-ffi, nothing else of ours."""

from __future__ import annotations

from ...backends.ort.options import LEVELS, read_options
from ...backends.tvm.run_template import IMPORTS, OPEN
from .layout import Layout

__all__ = ["program"]

PROGRAM = '''\
"""Runs the parts of a model: python run.py [inputs.npz [outputs.npz]]. Without inputs, arrays of ones of the shapes that the parts were made for go in.

Arrays of other shapes go to model.onnx, which holds the whole.
"""
{imports}
import onnxruntime as ort

{open}
def open_ort(path, settings):
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, settings["level"])
    options.intra_op_num_threads, options.enable_cpu_mem_arena = settings["threads"], settings["arena"]
    for key, value in settings["entries"].items(): options.add_session_config_entry(key, value)
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, feeds)))
WHOLE = {whole}
PARTS = {parts}
SIZES = {sizes}
OUTPUTS = {outputs}
here = pathlib.Path(__file__).parent
def ones(dtype, shape, value): return np.full(shape, 1 if value is None else value, dtype)
def fit(array, dtype, shape, value): return array.dtype == dtype and array.shape == shape and (value is None or array.item() == value)
def fits(feeds): return set(feeds) == set(SIZES) and all(fit(feeds[name], *size) for name, size in SIZES.items())
feeds = dict(np.load(sys.argv[1])) if len(sys.argv) > 1 else {{name: ones(*size) for name, size in SIZES.items()}}
if fits(feeds):
    values = dict(feeds)
    for folder, settings, needs in PARTS:
        part = open_tvm(here / folder) if settings is None else open_ort(here / folder / "model.onnx", settings)
        values.update(part({{name: values[name] for name in needs}}))
    outputs = {{name: values[name] for name in OUTPUTS}}
else:
    outputs = open_ort(here / "model.onnx", WHOLE)(feeds)
if len(sys.argv) > 2: np.savez(sys.argv[2], **outputs)
else: print(*(f"{{name}} {{np.asarray(value).dtype}} {{np.shape(value)}}\\n{{value}}" for name, value in outputs.items()), sep="\\n")
'''


def program(layout: Layout) -> str:
    """The text of ``run.py``."""
    parts = [(entry.folder, None if entry.place.startswith("tvm") else settings(entry.options), tuple(entry.needs)) for entry in layout.parts]
    sizes = {name: (size.dtype, tuple(size.shape), size.value) for name, size in layout.sizes.items()}
    return PROGRAM.format(imports=IMPORTS, open=OPEN, whole=settings(layout.whole), parts=parts, sizes=sizes, outputs=[port.name for port in layout.outputs])


def settings(stored: dict[str, object]) -> dict[str, object]:
    """Options of ONNX Runtime as the program reads them."""
    options = read_options(stored)
    return {"level": LEVELS[options.level].name, "threads": options.threads, "arena": options.arena, "entries": options.entries()}
