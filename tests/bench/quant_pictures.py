"""Image classifiers with labelled images: those to calibrate on, and whether the best class of each of the others is right."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graphwright.models.catalogue import Sample, find
from graphwright.models.images import CLASSIFIERS, Classifier
from graphwright.models.session import Runs, only
from graphwright.models.shared import Split, cifar10, image, imagenet_files, shared_file, spread

NAMES = ("mobilenetv2", "shufflenetv2", "squeezenet_fp16", "mobilenetv1_0.25_224_trained", "darknet_tiny", "resnet8_cifar10")
REPORT = 900
BATCH = 100


@dataclass(frozen=True)
class Pictures:
    """One classifier. ``samples`` are single images to calibrate on; ``right(runner, limit)`` says of each reported image whether its class is found."""

    name: str
    path: Path
    samples: Callable[[int], list[Sample]]
    right: Callable[[Runs, int | None], np.ndarray]
    calibration: int
    report: int


def pictures(names: Sequence[str] = NAMES) -> list[Pictures]:
    """Those that this machine can run."""
    return [_imagenet(name) if name != "resnet8_cifar10" else _resnet8() for name in names if find(name).unavailable() is None]


def _imagenet(name: str) -> Pictures:
    classifier = next(one for one in CLASSIFIERS if one.name == name)

    def samples(count: int) -> list[Sample]:
        return list(classifier.feeds(count, "calibration"))

    return Pictures(name, shared_file(f"models/{name}.onnx"), samples, functools.partial(_right, classifier), 100, REPORT)


def _right(classifier: Classifier, runner: Runs, limit: int | None) -> np.ndarray:
    files = imagenet_files("report")
    chosen = [files[index] for index in spread(len(files), limit)]
    scores = (only(runner.run({classifier.input: classifier.prepare(_pixels(path))})).ravel() for _, path in chosen)
    return np.array([classifier.label(int(score.argmax())) == label for score, (label, _) in zip(scores, chosen, strict=True)])


@functools.lru_cache(maxsize=1000)
def _pixels(path: Path) -> np.ndarray:
    """Decoding takes longer than a small network."""
    return image(path)


def _resnet8() -> Pictures:
    def samples(count: int) -> list[Sample]:
        pixels, _ = cifar10("calibration")
        return [_cifar_feed(pixels[[index]]) for index in spread(len(pixels), count)]

    def right(runner: Runs, limit: int | None) -> np.ndarray:
        pixels, labels = cifar10(REPORTED)
        chosen = np.array(spread(len(labels), limit))
        parts = [chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH)]
        return np.concatenate([only(runner.run(_cifar_feed(pixels[part]))).argmax(axis=1) == labels[part] for part in parts])

    return Pictures("resnet8_cifar10", shared_file("models/resnet8_cifar10.onnx"), samples, right, 500, 2000)


REPORTED: Split = "report"


def _cifar_feed(pixels: np.ndarray) -> Sample:
    return {"input_1": pixels.astype(np.float32)}
