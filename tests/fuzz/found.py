"""Models that random ones were cut down to when they failed: each must stay right."""

from __future__ import annotations

HEADER = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>\n'
FOUND = {
    "statistics that training overwrites, equal to the scale": (
        "g (float[2,1,3,3] x) => (float[2,1,3,3] y) <float[1] s = {1}, float[1] b = {0}, float[1] m = {1}, float[1] v = {4}>"
        " { y, p, q = BatchNormalization<training_mode=1>(x, s, b, m, v) }"
    ),
    "a gemm of doubles with a scalar bias and a factor": (
        "g (double[N,4] x) => (double[N,1] y) <double[1,4] w = {0.2,0.05,-0.6,-0.1}, double b = {0}> { y = Gemm<alpha=0.5, transB=1>(x, w, b) }"
    ),
}
"""In ONNX text, by what is special about them."""
