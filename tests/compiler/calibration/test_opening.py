"""Whatever a user has becomes samples of the model; what is wrong with it is said in one sentence."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.calibration import spool
from graphwright.compiler.calibration.data import CalibrationData
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.errors import InputError, UsageError

from .graphs import read

ROWS = """<ir_version: 9, opset_import: ["" : 17]> g (float[batch, 3] x) => (float[batch, 3] y) { y = Neg(x) }"""
FIXED = """<ir_version: 9, opset_import: ["" : 17]> g (float[1, 3] x) => (float[1, 3] y) { y = Neg(x) }"""
STEPS = """<ir_version: 9, opset_import: ["" : 17]> g (float[seq, 3] x) => (float[seq, 3] y) { y = Neg(x) }"""
PAIR = """<ir_version: 9, opset_import: ["" : 17]>
g (float[n, 2] a, int64[n] b) => (float[n, 2] y) { c = Cast<to = 1>(b)  d = Unsqueeze(c, axes)  y = Add(a, d) }"""


def rows() -> ir.Model:
    """A model that takes any number of rows."""
    return read(ROWS)


def numbers(data: CalibrationData, name: str = "x") -> list[np.ndarray]:
    """One input of every sample."""
    return [np.asarray(sample[name]) for sample in data]


def some(count: int, seed: int = 0) -> np.ndarray:
    """Float32 [count, 3]."""
    return np.random.default_rng(seed).standard_normal((count, 3), dtype=np.float32)


def test_a_list_of_dicts_is_as_many_samples_as_it_is_long() -> None:
    given = [some(2), some(1), some(5)]
    data = open_calibration([{"x": array} for array in given], rows())
    assert len(data) == 3
    for found, array in zip(numbers(data), given, strict=True):
        np.testing.assert_array_equal(found, array)


def test_tuples_are_in_the_order_of_the_inputs() -> None:
    model = read(PAIR, axes=np.array([1]))
    data = open_calibration([(np.ones((2, 2), np.float32), np.array([3, 4]))], model)
    assert numbers(data, "b")[0].tolist() == [3, 4]


def test_torch_tensors_are_taken_as_they_are() -> None:
    torch = pytest.importorskip("torch")
    data = open_calibration([{"x": torch.arange(3.0)[None]}], rows())
    assert numbers(data)[0].tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("form", ["tensors", "pairs", "dicts"])
def test_a_data_loader_is_one_sample_a_row_and_its_labels_are_left_out(form: str) -> None:
    torch = pytest.importorskip("torch")
    rows_given = torch.arange(21.0).reshape(7, 3)
    items = {
        "tensors": list(rows_given),
        "pairs": [(row, 1) for row in rows_given],
        "dicts": [{"x": row, "label": 1} for row in rows_given],
    }[form]
    loader = torch.utils.data.DataLoader(items, batch_size=4, shuffle=True)
    data = open_calibration(loader, rows())
    assert len(data) == 7
    first, again = np.concatenate(numbers(data)), np.concatenate(numbers(data))
    np.testing.assert_array_equal(first, again)  # Shuffled once, not each time.
    assert sorted(first.reshape(-1).tolist()) == list(range(21))


def test_a_data_loader_of_a_torch_module_is_arranged_as_its_call() -> None:
    torch = pytest.importorskip("torch")
    arranged = []

    def arrange(*arguments: object) -> dict[str, np.ndarray]:
        (nested,) = arguments
        arranged.append(nested)
        return {"x": np.asarray(nested["inner"])}  # type: ignore[index]

    data = open_calibration([({"inner": torch.ones(1, 3)},)], rows(), arrange)
    assert numbers(data)[0].tolist() == [[1, 1, 1]] and arranged


class Reader:
    """As ONNX Runtime's CalibrationDataReader: gives samples until there is none."""

    def __init__(self, count: int) -> None:
        self.left = [{"x": some(1, seed)} for seed in range(count)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next sample."""
        return self.left.pop(0) if self.left else None


def test_a_calibration_data_reader_is_read_once_and_serves_every_pass() -> None:
    data = open_calibration(Reader(4), rows())
    assert len(data) == 4 == len(numbers(data)) == len(numbers(data))


def test_onnx_runtimes_own_reader_class_is_taken() -> None:
    from onnxruntime.quantization import CalibrationDataReader

    class Own(Reader, CalibrationDataReader):  # type: ignore[misc]
        pass

    assert len(open_calibration(Own(2), rows())) == 2


def test_a_generator_is_kept_in_files_when_it_is_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(spool, "MEMORY_BYTES", 0)
    given = [some(2, seed) for seed in range(6)]
    small = spool.Spool(({"x": array} for array in given), _fit(), memory=3 * given[0].nbytes)
    data = CalibrationData(small, "a generator")
    assert len(list(tmp_path.rglob("graphwright-calibration-*/*.npz"))) == 3
    for _ in range(2):
        np.testing.assert_array_equal(np.stack(numbers(data)), np.stack(given))
    data.close()
    assert not list(tmp_path.rglob("graphwright-calibration-*"))


def _fit() -> spool.Fit:
    return spool.Fit(rows())


def test_a_buffer_that_its_generator_uses_again_is_copied() -> None:
    def reused() -> Iterator[dict[str, np.ndarray]]:
        buffer = np.zeros((1, 3), np.float32)
        for number in range(3):
            buffer[:] = number
            yield {"x": buffer}

    assert [array[0, 0] for array in numbers(open_calibration(reused(), rows()))] == [0, 1, 2]


def test_a_generator_that_fails_is_told_with_its_place() -> None:
    def failing() -> Iterator[dict[str, np.ndarray]]:
        yield {"x": some(1)}
        raise KeyError("pixel")

    with pytest.raises(InputError, match=r"failed after 1 samples: KeyError: 'pixel'"):
        open_calibration(failing(), rows())


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    ("text", "shape", "expected"),
    [
        (ROWS, (3,), None),
        (ROWS, (4, 3), [(1, 3)] * 4),  # A symbolic batch: one sample a row.
        (ROWS, (4, 2, 3), [(2, 3)] * 4),  # A dimension more: a stack.
        (FIXED, (4, 3), [(1, 3)] * 4),  # A batch of 1 that is 4 long.
        (FIXED, (1, 3), [(1, 3)]),
        (FIXED, (4, 1, 3), [(1, 3)] * 4),
        (STEPS, (4, 3), [(4, 3)]),  # A sequence is one sample.
    ],
)
def test_an_npz_is_one_sample_or_many_by_its_shape(tmp_path: Path, save: object, text: str, shape: tuple[int, ...], expected: list | None) -> None:
    content = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    save(tmp_path / "data.npz", x=content)  # type: ignore[operator]
    data = open_calibration(str(tmp_path / "data.npz"), read(text))
    if expected is None:
        with pytest.raises(InputError, match="none of the 1 calibration samples"):
            list(data)
        return
    found = numbers(data)
    assert [array.shape for array in found] == expected
    np.testing.assert_array_equal(np.concatenate(found).reshape(-1), content.reshape(-1))


def test_an_array_in_fortran_order_is_cut_along_its_first_axis(tmp_path: Path) -> None:
    content = np.asfortranarray(some(5))
    np.savez(tmp_path / "data.npz", x=content)
    np.testing.assert_array_equal(np.concatenate(numbers(open_calibration(tmp_path / "data.npz", rows()))), content)


def test_files_and_folders_of_npz_are_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for place, path in enumerate(["b.npz", "a.npz", "more/c.npz"]):
        np.savez(tmp_path / path, x=np.full((2, 3), place, np.float32))
    folder = open_calibration(tmp_path, rows())
    assert [array[0, 0] for array in numbers(folder)] == [1, 1, 0, 0, 2, 2]
    listed = open_calibration([str(tmp_path / "b.npz"), str(tmp_path / "a.npz")], rows())
    assert [array[0, 0] for array in numbers(listed)] == [0, 0, 1, 1]


def test_made_up_samples_are_only_there_when_asked_for_and_say_so() -> None:
    data = open_calibration("random:5", rows(), seed=3)
    assert data.made_up and len(numbers(data)) == 5
    assert "all made up" in data.describe()
    assert len({array.tobytes() for array in numbers(data)}) == 5
    np.testing.assert_array_equal(numbers(data)[0], numbers(open_calibration("random:1", rows(), seed=3))[0])


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"z": np.zeros((1, 3), np.float32)}, "no input 'z'"),
        ({}, "'x' is missing"),
        ({"x": np.zeros((1, 4), np.float32)}, "which [1, 4] does not fit"),
        ({"x": np.zeros((1, 3))}, "takes float32, not float64"),
        ({"x": np.array([[1, np.nan, np.nan]], np.float32)}, "'x' holds 2 NaN"),
        ({"x": None}, "is None"),
        ({1: np.zeros((1, 3), np.float32)}, "named by texts"),
        ((np.zeros((1, 3), np.float32),) * 2, "has 2 arrays"),
    ],
)
def test_a_bad_sample_is_left_out_and_named(item: object, reason: str) -> None:
    data = open_calibration([{"x": some(1)}, item, {"x": some(2)}], rows())
    assert [array.shape[0] for array in numbers(data)] == [1, 2]
    (skipped,) = data.skipped
    assert skipped.name == "sample 1" and reason in skipped.reason
    assert len(data) == 2 and "calibrated on 2 samples" in data.describe() and reason in data.describe()


def test_infinities_are_no_reason_to_leave_a_sample_out() -> None:
    data = open_calibration([{"x": np.array([[0, -np.inf, 1]], np.float32)}], rows())
    assert len(numbers(data)) == 1 and not data.skipped


def test_when_every_sample_is_bad_the_first_reasons_are_told() -> None:
    data = open_calibration([{"x": np.zeros((1, 4), np.float32)}] * 9, rows())
    with pytest.raises(InputError, match=r"none of the 9 calibration samples \(given samples\) can be used: sample 0: .*does not fit.*sample 2"):
        list(data)


@pytest.mark.parametrize(("source", "error", "said"), [
    ([], InputError, "has no samples"),
    (iter([]), InputError, "has no samples"),
    (3, UsageError, "a int is no calibration data"),
    ("nowhere.npz", UsageError, "there is no calibration file or folder 'nowhere.npz'"),
    ("random:none", UsageError, "random:64"),
])  # fmt: skip
def test_what_is_no_data_is_refused(source: object, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=re.escape(said)):
        open_calibration(source, rows())


def test_folders_that_hold_nothing_useful_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no .npz files and no images"):
        open_calibration(tmp_path, rows())
    (tmp_path / "notes.csv").write_text("1,2")
    with pytest.raises(UsageError, match="is no calibration data"):
        open_calibration(tmp_path / "notes.csv", rows())
    np.savez(tmp_path / "a.npz", x=some(1))
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(UsageError, match="both .npz files and images"):
        open_calibration(tmp_path, rows())


@pytest.mark.parametrize("content", [b"", b"no zip", "cut off", "objects"])
def test_a_broken_npz_is_left_out_and_named(tmp_path: Path, content: bytes | str) -> None:
    np.savez(tmp_path / "good.npz", x=some(4))
    path = tmp_path / "bad.npz"
    if content == "objects":
        np.savez(path, x=np.array([{}], object))
    elif content == "cut off":
        path.write_bytes((tmp_path / "good.npz").read_bytes()[:150])
    else:
        path.write_bytes(content)  # type: ignore[arg-type]
    data = open_calibration(tmp_path, rows())
    assert len(numbers(data)) == 4
    assert data.skipped[0].name == "bad.npz" and "cannot be read as .npz" in data.skipped[0].reason


def test_the_digest_follows_the_data_and_nothing_else(tmp_path: Path) -> None:
    given = [{"x": some(2)}, {"x": some(3)}]
    digests = {open_calibration(source, rows()).digest for source in (given, [dict(item) for item in given])}
    assert len(digests) == 1
    assert open_calibration(given[:1], rows()).digest not in digests
    assert open_calibration([given[0], {"x": some(3) + 1}], rows()).digest not in digests
    np.savez(tmp_path / "a.npz", x=some(2))
    first = open_calibration(tmp_path / "a.npz", rows()).digest
    np.savez(tmp_path / "a.npz", x=some(2) + 1)
    assert open_calibration(tmp_path / "a.npz", rows()).digest != first


def test_no_more_samples_are_used_than_asked_for() -> None:
    endless = ({"x": some(1, seed)} for seed in range(sys.maxsize))
    assert len(numbers(open_calibration(endless, rows(), preprocess="samples=7"))) == 7
    assert len(numbers(open_calibration([{"x": some(1)}] * 9, rows(), preprocess={"samples": 4}))) == 4
