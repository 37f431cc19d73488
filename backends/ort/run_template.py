"""The program that an artifact brings along: it needs numpy and onnxruntime, nothing else."""

from __future__ import annotations

import dataclasses

from .options import DEFAULT, LEVELS, Options

PROGRAM = '''\
"""Runs model.onnx: python run.py [inputs.npz [outputs.npz]]. Without inputs, arrays of ones of the declared shapes (1 where a size is open) go in."""
import sys, pathlib, numpy as np, onnxruntime as ort
options = ort.SessionOptions()
{settings}
session = ort.InferenceSession(str(pathlib.Path(__file__).with_name("model.onnx")), options, providers={providers}){check}
dtypes = {{"float": "f4", "double": "f8", "string": "O"}}
ones = lambda i: np.ones([d if isinstance(d, int) else 1 for d in i.shape], dtypes.get(i.type[7:-1], i.type[7:-1]))
feeds = dict(np.load(sys.argv[1])) if len(sys.argv) > 1 else {{i.name: ones(i) for i in session.get_inputs()}}
outputs = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds)))
if len(sys.argv) > 2: np.savez(sys.argv[2], **outputs)
else: print(*(f"{{name}} {{np.asarray(value).dtype}} {{np.shape(value)}}\\n{{value}}" for name, value in outputs.items()), sep="\\n")
'''
CHECK = """
if "CUDAExecutionProvider" not in session.get_providers(): sys.exit("ONNX Runtime cannot use the GPU: pip install 'onnxruntime-gpu[cuda,cudnn]'")"""


def program(options: Options) -> str:
    """The text of ``run.py`` for a model with these options."""
    lines = [f"options.add_session_config_entry({key!r}, {value!r})" for key, value in options.entries().items()]
    if options.level != DEFAULT.level:
        lines.append(f"options.graph_optimization_level = ort.GraphOptimizationLevel.{LEVELS[options.level].name}")
    if options.threads != DEFAULT.threads:
        lines.append(f"options.intra_op_num_threads = {options.threads}")
    if options.arena != DEFAULT.arena:
        lines.append(f"options.enable_cpu_mem_arena = {options.arena}")
    if options.device == "cpu":
        return PROGRAM.format(settings="\n".join(lines), providers=repr(options.providers()).replace("'", '"'), check="")
    lines.append("ort.preload_dlls()")
    return PROGRAM.format(settings="\n".join(lines), providers=_without_graph(options), check=CHECK)


def _without_graph(options: Options) -> str:
    """A CUDA graph needs buffers that stay where they are, which ``session.run`` does not give it: ``run.py`` does without."""
    return repr(dataclasses.replace(options, graph=False).providers())  # type: ignore[call-arg]
