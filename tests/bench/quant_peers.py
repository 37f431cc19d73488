"""What other quantisers make of a model: ONNX Runtime's own in this process, Olive in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import venv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from rivals import silence

from graphwright.models.catalogue import Sample

OLIVE = Path(".cache") / "olive"
PINNED = ("olive-ai==0.13.0", "requests")
WORKER = Path(__file__).parent / "olive_worker.py"
LIMIT_S = 600
BLOCK = 32
PER_CHANNEL = 13

Quantiser = Callable[[Path, Sequence[Sample], Path], None]
"""(model, samples, output): writes a quantised model."""


def static_peers() -> dict[str, Quantiser]:
    """Everything that makes int8 of weights and activations with calibration data, by name."""
    return {
        "ORT static, min-max": lambda model, samples, output: _ort_static(model, samples, output, "MinMax"),
        "ORT static, entropy": lambda model, samples, output: _ort_static(model, samples, output, "Entropy"),
        "ORT static, percentile": lambda model, samples, output: _ort_static(model, samples, output, "Percentile"),
        "Olive static": lambda model, samples, output: olive(model, samples, output, "OnnxStaticQuantization", {}),
        "Olive static, per channel": lambda model, samples, output: olive(model, samples, output, "OnnxStaticQuantization", {"per_channel": True}),
    }


def dynamic_peers() -> dict[str, Quantiser]:
    """What makes int8 of weights, and of activations as they come."""
    return {
        "ORT dynamic": lambda model, samples, output: _ort_dynamic(model, output, per_channel=False),
        "ORT dynamic, per channel": lambda model, samples, output: _ort_dynamic(model, output, per_channel=True),
        "Olive dynamic": lambda model, samples, output: olive(model, (), output, "OnnxDynamicQuantization", {}),
    }


def int4_peers() -> dict[str, Quantiser]:
    """What makes int4 of the weights of matrix products, in blocks of 32."""
    blocks = {"block_size": BLOCK, "bits": 4}
    return {
        "ORT MatMulNBits": lambda model, samples, output: _ort_blocks(model, output, symmetric=True),
        "ORT MatMulNBits, asymmetric": lambda model, samples, output: _ort_blocks(model, output, symmetric=False),
        "Olive rtn": lambda model, samples, output: olive(model, (), output, "OnnxBlockWiseRtnQuantization", blocks),
        "Olive k-quant": lambda model, samples, output: olive(model, (), output, "OnnxKQuantQuantization", blocks),
        "Olive hqq": lambda model, samples, output: olive(model, (), output, "OnnxHqqQuantization", {"block_size": BLOCK}),
    }


class _Reader:
    """Samples as ONNX Runtime wants them: a subclass of its CalibrationDataReader, made where that is imported."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples: Iterator[Sample] = iter(samples)

    def get_next(self) -> Sample | None:
        return next(self._samples, None)


def _ort_static(model: Path, samples: Sequence[Sample], output: Path, how: str) -> None:
    """QDQ, one scale a channel, as its documentation recommends for this processor: without VNNI, a weight of 7 bits."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

    reader = type("Reader", (_Reader, CalibrationDataReader), {})(samples)
    with silence():
        quantize_static(
            str(_prepared(model, output)), str(output), reader, quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=not vnni(),
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod[how],
        )  # fmt: skip


def _ort_dynamic(model: Path, output: Path, *, per_channel: bool) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with silence():
        quantize_dynamic(str(_prepared(model, output)), str(output), per_channel=per_channel, reduce_range=not vnni(), weight_type=QuantType.QInt8)


def _ort_blocks(model: Path, output: Path, *, symmetric: bool) -> None:
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with silence():
        quantiser = MatMulNBitsQuantizer(onnx.load(_prepared(model, output)), bits=4, block_size=BLOCK, is_symmetric=symmetric, accuracy_level=4)
        quantiser.process()
        quantiser.model.save_model_to_file(str(output), use_external_data_format=False)


def _prepared(model: Path, output: Path) -> Path:
    """The model after ONNX Runtime's own preparation; the model itself where that fails."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = output.with_suffix(".prepared.onnx")
    try:
        with silence():
            quant_pre_process(str(model), str(path), skip_symbolic_shape=True)
    except Exception:
        return model
    return path


def raised(model: Path, output: Path) -> Path:
    """The model at the opset from which on weights can have a scale for each channel, as ONNX Runtime's documentation asks for; itself if it is there."""
    import onnx

    loaded = onnx.load(model)
    if any(item.domain in ("", "ai.onnx") and item.version >= PER_CHANNEL for item in loaded.opset_import):
        return model
    onnx.save(onnx.version_converter.convert_version(loaded, PER_CHANNEL), output)
    return output


def vnni() -> bool:
    """Whether the processor multiplies int8 without saturating in between."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    return "avx512_vnni" in flags or "avx_vnni" in flags


def olive_python() -> Path:
    """The interpreter of an environment with Olive, made once. It sees this environment's packages, so that both use the same runtime."""
    if not (OLIVE / ".ready").exists():
        venv.create(OLIVE, with_pip=True, clear=True)
        (site,) = (OLIVE / "lib").glob("python*/site-packages")
        (site / "beside.pth").write_text(str(Path(np.__file__).parents[1]) + "\n", encoding="utf-8")
        install = [OLIVE / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*install, *PINNED], check=True)
        (OLIVE / ".ready").touch()
    return (OLIVE / "bin" / "python").absolute()


def olive(model: Path, samples: Sequence[Sample], output: Path, name: str, options: dict[str, object]) -> None:
    """One Olive pass. Raises RuntimeError with the end of what it said when it fails."""
    python = olive_python()
    with tempfile.TemporaryDirectory() as place:
        for index, sample in enumerate(samples):
            np.savez(Path(place) / f"{index:05d}.npz", **sample)
        where = place if samples else "-"
        command = [python, WORKER, model.absolute(), where, output.absolute(), name, json.dumps(options)]
        environment = {**os.environ, "OLIVE_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=environment)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}")
