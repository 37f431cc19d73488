"""Image classifiers with real weights: ImageNet in several dresses, CIFAR-10 and MNIST."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from .catalogue import Entry, Metric, Sample
from .session import Runs, only
from .shared import Split, cifar10, image, imagenet_files, mnist, resized, shared_file, spread

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
MEAN_BGR = np.array([104, 117, 123], np.float32)


@dataclass(frozen=True)
class Classifier:
    """One ImageNet classifier: ``prepare`` turns the uint8 RGB 256 x 256 image into a batch of one, ``label`` the best class into an ImageNet index."""

    name: str
    what: str
    input: str
    prepare: Callable[[np.ndarray], np.ndarray]
    expected: float
    label: Callable[[int], int] = lambda best: best

    def feeds(self, count: int, split: Split) -> Iterator[Sample]:
        """Single images, evenly spread over the classes."""
        files = imagenet_files(split)
        for index in spread(len(files), count):
            yield {self.input: self.prepare(image(files[index][1]))}

    def top1(self, runner: Runs, limit: int | None = None) -> float:
        """The part of the report images whose best class is right."""
        files = imagenet_files("report")
        chosen = [files[index] for index in spread(len(files), limit)]
        return float(np.mean([self._best(runner, image(path)) == label for label, path in chosen]))

    def _best(self, runner: Runs, pixels: np.ndarray) -> int:
        return self.label(int(only(runner.run({self.input: self.prepare(pixels)})).ravel().argmax()))

    def entry(self) -> Entry:
        """This classifier in the catalogue."""
        metric = Metric("top-1 on 900 ImageNet images", self.top1, expected=self.expected)
        needs = ("data/imagenet_1000",)
        return Entry(self.name, self.what, "shared models", self.feeds, metric, path=f"models/{self.name}.onnx", needs=needs, packages=("PIL",))


def entries() -> tuple[Entry, ...]:
    """All classifiers."""
    return (*(classifier.entry() for classifier in CLASSIFIERS), _resnet8(), _mnist_cnn())


def _normalised(pixels: np.ndarray) -> np.ndarray:
    crop = pixels[16:240, 16:240].astype(np.float32) / 255
    return np.ascontiguousarray(((crop - MEAN) / DEVIATION).transpose(2, 0, 1)[None])


def _caffe(pixels: np.ndarray) -> np.ndarray:
    crop = pixels[16:240, 16:240, ::-1].astype(np.float32) - MEAN_BGR
    return np.ascontiguousarray(crop.transpose(2, 0, 1)[None]).astype(np.float16)


def _small_bytes(pixels: np.ndarray) -> np.ndarray:
    return resized(pixels[16:240, 16:240], 160, 160)[None]


def _small_signed(pixels: np.ndarray) -> np.ndarray:
    return _small_bytes(pixels).astype(np.float32) / 127.5 - 1


def _signed(pixels: np.ndarray) -> np.ndarray:
    return pixels[None, 16:240, 16:240].astype(np.float32) / 127.5 - 1


def _unit(pixels: np.ndarray) -> np.ndarray:
    return pixels[None, 16:240, 16:240].astype(np.float32) / 255


def _after_background(best: int) -> int:
    """1,001 classes, of which the first is none of ImageNet's."""
    return best - 1


def _darknet_label(best: int) -> int:
    return _darknet_order()[best]


@functools.cache
def _darknet_order() -> tuple[int, ...]:
    """Darknet's classes stand in an order of their own; the file names the WordNet id of each."""
    wordnet = {path.stem[5:]: label for split in ("calibration", "report") for label, path in imagenet_files(split)}
    return tuple(wordnet[name] for name in shared_file("models/darknet_tiny.wnids.txt").read_text().split())


CLASSIFIERS = (
    Classifier("mobilenetv2", "MobileNetV2 1.0, opset 11, dynamic batch and size", "image", _normalised, 0.8311),
    Classifier("shufflenetv2", "ShuffleNetV2, opset 12", "input", _normalised, 0.8333),
    Classifier("squeezenet_fp16", "SqueezeNet with float16 weights and input, opset 7", "data_0", _caffe, 0.5989),
    Classifier("mobilenetv1_0.5_160", "MobileNetV1 0.5, NHWC, 1,001 classes", "input", _small_signed, 0.6533, _after_background),
    Classifier("mobilenetv1_0.5_160_qdq", "MobileNetV1 0.5 already quantised (QDQ), uint8 NHWC", "input", _small_bytes, 0.6567, _after_background),
    Classifier("mobilenetv1_0.25_224_trained", "MobileNetV1 0.25, NHWC, Pad before Conv", "input_2", _signed, 0.5711),
    Classifier("darknet_tiny", "Tiny Darknet, LeakyRelu, NHWC input", "input_1", _unit, 0.6422, _darknet_label),
)


def _resnet8() -> Entry:
    def prepare(pixels: np.ndarray) -> Sample:
        return {"input_1": pixels.astype(np.float32)}

    metric = Metric("top-1 on 2,000 CIFAR-10 images", functools.partial(_batched_top1, cifar10, prepare), expected=0.7515)
    feeds = functools.partial(_batches, cifar10, prepare, 8)
    return Entry(
        "resnet8_cifar10", "ResNet-8, NHWC, raw 0 to 255", "shared models", feeds, metric, path="models/resnet8_cifar10.onnx",
        needs=("data/cifar10/test_2500.npz",),
    )  # fmt: skip


def _mnist_cnn() -> Entry:
    def prepare(pixels: np.ndarray) -> Sample:
        return {"0": ((pixels[:, None].astype(np.float32) / 255) - np.float32(0.1307)) / np.float32(0.3081)}

    metric = Metric("top-1 on 9,000 MNIST digits", functools.partial(_single_top1, mnist, prepare), expected=0.9907)
    feeds = functools.partial(_batches, mnist, prepare, 1)
    return Entry(
        "mnist_cnn", "small CNN, opset 9, initialisers that are inputs too", "shared models", feeds, metric, path="models/mnist_cnn.onnx",
        needs=("data/mnist/t10k-images-idx3-ubyte.gz",),
    )  # fmt: skip


Labelled = Callable[[Split], tuple[np.ndarray, np.ndarray]]
Prepare = Callable[[np.ndarray], Sample]


def _batches(data: Labelled, prepare: Prepare, size: int, count: int, split: Split) -> Iterator[Sample]:
    pixels, _ = data(split)
    chosen = spread(len(pixels), count * size)
    for index in range(count):
        yield prepare(pixels[[chosen[(index * size + offset) % len(chosen)] for offset in range(size)]])


def _batched_top1(data: Labelled, prepare: Prepare, runner: Runs, limit: int | None = None) -> float:
    pixels, labels = data("report")
    chosen = spread(len(labels), limit)
    best = [only(runner.run(prepare(pixels[chosen[start : start + 100]]))).argmax(axis=1) for start in range(0, len(chosen), 100)]
    return float((np.concatenate(best) == labels[chosen]).mean())


def _single_top1(data: Labelled, prepare: Prepare, runner: Runs, limit: int | None = None) -> float:
    pixels, labels = data("report")
    chosen = spread(len(labels), limit)
    return float(np.mean([only(runner.run(prepare(pixels[[index]]))).argmax() == labels[index] for index in chosen]))
