"""Finding things in images with real weights: faces, segments, body joints. Nothing is labelled here, so the figure is agreement with the file as obtained."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .catalogue import Entry, Metric, Sample
from .session import Plain, Runs, only
from .shared import Split, image, imagenet_files, resized, shared_file, spread

FACES, SEGMENTS, JOINTS = (f"models/{name}.onnx" for name in ("ultraface_rfb320", "deeplabv3_qdq", "movenet_qdq"))
IMAGES = ("data/imagenet_1000",)
SURE = 0.6
"""A face counts from this score on."""
VISIBLE = 0.2
NEAR = 0.02
"""Joints agree when they lie within this part of the image's side."""


def entries() -> tuple[Entry, ...]:
    """All finders."""
    return (
        Entry("ultraface_rfb320", "face detector with an SSD head", "shared models", _face_feeds,
              Metric("same faces (F1 at IoU 0.5)", same_faces, expected=1.0), path=FACES, needs=IMAGES, packages=("PIL",)),
        Entry("deeplabv3_qdq", "segmentation, already quantised, from TFLite", "shared models", _segment_feeds,
              Metric("same segments (mean IoU)", same_segments, expected=1.0), path=SEGMENTS, needs=IMAGES, packages=("PIL",)),
        Entry("movenet_qdq", "pose of one person, already quantised, from TFLite", "shared models", _joint_feeds,
              Metric("same joints (within 2 % of the side)", same_joints, expected=1.0), path=JOINTS, needs=IMAGES, packages=("PIL",)),
    )  # fmt: skip


def _pixels(count: int | None, split: Split) -> Iterator[np.ndarray]:
    files = imagenet_files(split)
    return (image(files[index][1]) for index in spread(len(files), count))


def _face_feeds(count: int | None, split: Split) -> Iterator[Sample]:
    for pixels in _pixels(count, split):
        scaled = (resized(pixels, 240, 320).astype(np.float32) - 127) / 128
        yield {"input": np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])}


def _segment_feeds(count: int | None, split: Split) -> Iterator[Sample]:
    for pixels in _pixels(count, split):
        yield {"MobilenetV2/MobilenetV2/input": resized(pixels, 513, 513)[None]}


def _joint_feeds(count: int | None, split: Split) -> Iterator[Sample]:
    for pixels in _pixels(count, split):
        yield {"serving_default_input:0": resized(pixels, 192, 192)[None]}


def faces(runner: Runs, feed: Sample) -> np.ndarray:
    """The boxes of the faces found, float32 [n, 4] as left, top, right, bottom from 0 to 1, surest first, without overlapping doubles."""
    outputs = runner.run(feed)
    scores, boxes = (np.asarray(outputs[name])[0] for name in ("scores", "boxes"))
    order = [index for index in np.argsort(-scores[:, 1], kind="stable") if scores[index, 1] > SURE]
    kept: list[int] = []
    for index in order:
        if all(overlap(boxes[index], boxes[other]) < 0.3 for other in kept):
            kept.append(index)
    return boxes[kept]


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    common = float(np.prod(np.maximum(0, high - low)))
    return common / (float(np.prod(first[2:] - first[:2])) + float(np.prod(second[2:] - second[:2])) - common)


def same_faces(runner: Runs, limit: int | None = None) -> float:
    """F1 of the faces found against those that the model as obtained finds; boxes match from half an overlap on."""
    original = Plain(shared_file(FACES))
    matched = found = wanted = 0
    for feed in _face_feeds(limit or 300, "report"):
        ours, theirs = faces(runner, feed), list(faces(original, feed))
        found, wanted = found + len(ours), wanted + len(theirs)
        for box in ours:
            best = max(range(len(theirs)), key=lambda index: overlap(box, theirs[index]), default=None)
            if best is not None and overlap(box, theirs[best]) >= 0.5:
                theirs.pop(best)
                matched += 1
    return 2 * matched / (found + wanted) if found + wanted else 1.0


def same_segments(runner: Runs, limit: int | None = None) -> float:
    """Intersection over union with the segments of the model as obtained, averaged over the classes that occur."""
    original = Plain(shared_file(SEGMENTS))
    common, either = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for feed in _segment_feeds(limit or 40, "report"):
        ours, theirs = only(runner.run(feed)).ravel(), only(original.run(feed)).ravel()
        both = np.bincount(ours[ours == theirs], minlength=256)
        common += both
        either += np.bincount(ours, minlength=256) + np.bincount(theirs, minlength=256) - both
    return float(np.mean(common[either > 0] / either[either > 0]))


def same_joints(runner: Runs, limit: int | None = None) -> float:
    """The part of the joints the model as obtained sees that the runner puts in the same place."""
    original = Plain(shared_file(JOINTS))
    near = []
    for feed in _joint_feeds(limit or 200, "report"):
        ours, theirs = only(runner.run(feed))[0, 0], only(original.run(feed))[0, 0]
        seen = theirs[:, 2] > VISIBLE
        near.extend(np.abs(ours[seen, :2] - theirs[seen, :2]).max(axis=1) <= NEAR)
    return float(np.mean(near)) if near else 1.0
