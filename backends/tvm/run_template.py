"""The program that a compiled model brings along: it needs numpy, apache-tvm-ffi and libtvm_runtime.so, nothing else of TVM."""

from __future__ import annotations

IMPORTS = "import ctypes, importlib.util, json, os, pathlib, sys, numpy as np, tvm_ffi"
OPEN = '''\
def open_tvm(folder):
    """What runs the model.so of a folder: {input: array} -> {output: array}."""
    spec = importlib.util.find_spec("tvm")  # libtvm_runtime.so lies beside this program or model.so, else it is an installed apache-tvm's.
    places = [folder, pathlib.Path(__file__).parent, *(pathlib.Path(place) / "lib" for place in (spec.submodule_search_locations if spec else ()))]
    runtime = next((place / "libtvm_runtime.so" for place in places if (place / "libtvm_runtime.so").is_file()), None)
    if runtime is None: sys.exit(f"put libtvm_runtime.so (of the package apache-tvm) beside {__file__}, or pip install apache-tvm")
    ctypes.CDLL(str(runtime), ctypes.RTLD_GLOBAL)
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    os.environ.setdefault("TVM_THREAD_POOL_SPIN_COUNT", "100")  # Threads rest between runs.
    if not (os.environ.get("TVM_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS")):  # TVM by itself leaves half of the processors idle.
        cpus = [str(one) for one in sorted(os.sched_getaffinity(0))]
        twins = [pathlib.Path(f"/sys/devices/system/cpu/cpu{one}/topology/thread_siblings_list") for one in cpus]
        cores = len({twin.read_text() if twin.is_file() else twin for twin in twins})
        tvm_ffi.get_global_func("runtime.config_threadpool")(-3, cores, cpus, cores)
    vm = tvm_ffi.load_module(str(folder / "model.so"))["vm_load_executable"]()
    vm["vm_initialization"](1, 0, 2)  # on the CPU, memory in a pool
    def tensor(array):  # Vectors are loaded from where it starts, which must be a multiple of 64.
        if array.ctypes.data % 64 or not array.flags["C_CONTIGUOUS"] or not array.flags.writeable:
            space = np.empty(array.nbytes + 64, np.uint8)
            start = -space.ctypes.data % 64
            whole = space[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
            whole[...] = array
            array = whole
        return tvm_ffi.from_dlpack(array)
    content = np.memmap(folder / "model.params", np.uint8, mode="c") if about["weights"] else None
    size = lambda dtype, shape: int(np.prod(shape)) * np.dtype(dtype).itemsize
    weights = [tensor(np.asarray(content[at : at + size(dtype, shape)]).view(dtype).reshape(shape)) for at, dtype, shape in about["weights"]]
    def run(feeds):
        results = vm["main"](*(tensor(feeds[name]) for name, *_ in about["inputs"]), *weights)
        results = [results] if isinstance(results, tvm_ffi.Tensor) else results
        return {name: np.from_dlpack(result) for (name, *_), result in zip(about["outputs"], results)}
    run.inputs = about["inputs"]
    return run
'''
PROGRAM = '''\
"""Runs model.so: python run.py [inputs.npz [outputs.npz]]. Without inputs, arrays of ones of the declared shapes (1 where a size is open) go in."""
{imports}

{open}
run = open_tvm(pathlib.Path(__file__).parent)
dtypes = {{"tensor(float)": "f4", "tensor(double)": "f8"}}
ones = lambda dtype, shape: np.ones([d if isinstance(d, int) else 1 for d in shape or ()], dtypes.get(dtype, dtype[7:-1]))
feeds = dict(np.load(sys.argv[1])) if len(sys.argv) > 1 else {{name: ones(dtype, shape) for name, dtype, shape in run.inputs}}
outputs = run(feeds)
if len(sys.argv) > 2: np.savez(sys.argv[2], **outputs)
else: print(*(f"{{name}} {{value.dtype}} {{value.shape}}\\n{{value}}" for name, value in outputs.items()), sep="\\n")
'''


def program() -> str:
    """The text of ``run.py``."""
    return PROGRAM.format(imports=IMPORTS, open=OPEN)
