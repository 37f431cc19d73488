"""Images and texts become inputs as the specification says, and it is checked against the model before anything runs."""

from __future__ import annotations

import builtins
import re
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.calibration.data import CalibrationData
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.calibration.preprocess import read_preprocess
from graphwright.compiler.core.errors import BackendMissing, GraphwrightError, InputError, UsageError

from .graphs import read

IMAGENET = "size=256,crop=224,mean=0.485+0.456+0.406,std=0.229+0.224+0.225"


def images(shape: str = "float[batch, 3, 224, 224]") -> ir.Model:
    """A model of one image."""
    return read(f"""<ir_version: 9, opset_import: ["" : 17]> g ({shape} x) => ({shape} y) {{ y = Identity(x) }}""")


def texts(inputs: str) -> ir.Model:
    """A model of token ids."""
    first = inputs.split()[-1] if "," not in inputs.split("]")[1] else inputs.split("]")[1].split(",")[0].strip()
    return read(f"""<ir_version: 9, opset_import: ["" : 17]> g ({inputs}) => (int64[batch, length] y) {{ y = Identity({first}) }}""")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photographs (two of other shapes) and a file that is none."""
    from PIL import Image

    rng = np.random.default_rng(0)
    place = tmp_path / "images"
    place.mkdir()
    for name, shape in (("a.png", (300, 260, 3)), ("b.jpg", (256, 256, 3)), ("c.png", (256, 400))):
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(place / name)
    (place / "d.jpg").write_bytes(b"\xff\xd8\xff no image")
    return place


def only(data: CalibrationData, place: int = 0) -> np.ndarray:
    """One sample's image."""
    return np.asarray(list(data)[place]["x"])


def test_pixels_are_scaled_cropped_and_normalised(folder: Path) -> None:
    from PIL import Image

    data = open_calibration(folder, images(), preprocess=IMAGENET)
    found = only(data)
    with Image.open(folder / "a.png") as image:
        resized = image.resize((256, int(256 * 300 / 260)), Image.Resampling.BILINEAR)
        pixels = np.asarray(resized.crop((16, 36, 240, 260)), np.float32)
    expected = ((pixels / np.float32(255) - np.array([0.485, 0.456, 0.406], np.float32)) / np.array([0.229, 0.224, 0.225], np.float32)).transpose(2, 0, 1)
    assert resized.height == 295
    np.testing.assert_array_equal(found[0], expected)


def test_a_corrupt_image_is_left_out_and_named(folder: Path) -> None:
    data = open_calibration(folder, images(), preprocess=IMAGENET)
    assert [sample["x"].shape for sample in data] == [(1, 3, 224, 224)] * 3  # type: ignore[union-attr]
    (skipped,) = data.skipped
    assert skipped.name == "d.jpg" and "cannot be read as an image" in skipped.reason and str(folder) not in skipped.reason


def test_layout_order_and_type_follow_the_model_and_the_specification(folder: Path) -> None:
    plain = only(open_calibration(folder, images("uint8[1, 224, 224, 3]"), preprocess="size=256"))
    assert plain.dtype == np.uint8 and plain.shape == (1, 224, 224, 3)
    turned = only(open_calibration(folder, images("uint8[1, 3, 224, 224]"), preprocess="size=256,color=bgr"))
    np.testing.assert_array_equal(turned[0].transpose(1, 2, 0)[..., ::-1], plain[0])
    half = only(open_calibration(folder, images("float16[1, 3, 224, 224]"), preprocess="size=256,mean=0.5,std=2"))
    np.testing.assert_allclose(half[0], ((plain[0].astype(np.float32) / 255 - 0.5) / 2).transpose(2, 0, 1), atol=1e-3)
    gray = only(open_calibration(folder, images("float[1, 1, 32, 48]"), preprocess="size=32x48,scale=1"))
    assert gray.shape == (1, 1, 32, 48) and gray.max() > 1


def test_an_image_smaller_than_its_crop_is_left_out(folder: Path) -> None:
    data = open_calibration(folder, images("float[1, 3, 280, 250]"), preprocess="crop=280x250")
    list(data)
    assert [item.name for item in data.skipped] == ["b.jpg", "c.png", "d.jpg"]
    assert "256 x 256, smaller than the 280 x 250" in data.skipped[0].reason


@pytest.mark.parametrize(
    ("shape", "spec", "said"),
    [
        ("float[1, 3, 224, 224]", None, "how images become inputs has to be said"),
        ("float[1, 3, 224, 224]", "crop=192", "makes [1, 3, 192, 192], but the input 'x' takes [1,3,224,224]"),
        ("float[1, 3, 224, 224]", "layout=nhwc", "makes [1, 3, 224, 3]"),
        ("float[1, 3, 224, 224]", "color=gray", "makes [1, 1, 224, 224]"),
        ("float[1, c, h, w]", "crop=192", "channels first or last has to be said"),
        ("float[1, 3, 224, 224]", "mean=1+2", "2 numbers in mean, but rgb has 3"),
        ("float[1, 3, 224, 224]", "std=0", "cannot be 0"),
        ("uint8[1, 3, 224, 224]", "mean=0.5", "leave out mean and std"),
        ("float[1, 3, 224, 224]", "input=z", "no input 'z'"),
        ("float[1, 224]", "size=3", "one input of 4 dimensions"),
    ],
)
def test_a_specification_that_does_not_fit_the_model_is_refused(folder: Path, shape: str, spec: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        open_calibration(folder, images(shape), preprocess=spec)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("size", "takes name=value"),
        ("sizes=3", "has no 'sizes'; it has: size, crop"),
        ("size=big", "'size=big' cannot be used: input should be a valid integer"),
        ("size=1x2x3", "at most 2"),
        ("scale=0", "greater than 0"),
        ("layout=chw", "'nchw' or 'nhwc'"),
        ({"samples": 0}, "greater than 0"),
    ],
)
def test_a_specification_that_cannot_be_read_is_refused(spec: str | dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        read_preprocess(spec)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A text file, and a tokenizer of its words beside it."""
    tokenizers = pytest.importorskip("tokenizers")
    lines = "the cat sat\n\nthe dog sat on the cat\ndog\n"
    (tmp_path / "texts.txt").write_text(lines)
    words = {word: place for place, word in enumerate(["[PAD]", "[UNK]", *sorted(set(lines.split()))])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.enable_padding(length=16, pad_id=0, pad_token="[PAD]")
    tokenizer.enable_truncation(16)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "texts.txt"


BERT = "int64[batch, length] input_ids, int64[batch, length] attention_mask, int64[batch, length] token_type_ids"


def test_each_line_is_as_many_tokens_as_it_has(library: Path) -> None:
    data = open_calibration(library, texts(BERT))
    found = [np.asarray(sample["input_ids"]).tolist() for sample in data]
    assert [len(row[0]) for row in found] == [3, 6, 1]
    assert all(np.asarray(sample["attention_mask"]).all() for sample in data)
    assert found[0] == [[6, 2, 5]]


def test_long_lines_are_cut_and_short_ones_filled_behind_the_mask(library: Path) -> None:
    cut = open_calibration(library, texts(BERT), preprocess="length=2")
    assert [np.asarray(sample["input_ids"]).shape for sample in cut] == [(1, 2), (1, 2), (1, 1)]
    model = texts("int32[1, 4] input_ids, int32[1, 4] attention_mask")
    samples = list(open_calibration(library, model))
    assert np.asarray(samples[2]["input_ids"]).tolist() == [[3, 0, 0, 0]] and samples[2]["input_ids"].dtype == np.int32  # type: ignore[union-attr]
    assert np.asarray(samples[2]["attention_mask"]).tolist() == [[1, 0, 0, 0]]


def test_joined_lines_are_windows_of_one_length(library: Path) -> None:
    data = open_calibration(library, texts("int64[batch, length] ids"), preprocess="length=4,join=true")
    assert [np.asarray(sample["ids"]).shape for sample in data] == [(1, 4)] * 2


def test_a_model_of_a_fixed_length_without_a_mask_takes_no_shorter_line(library: Path) -> None:
    data = open_calibration(library, texts("int64[1, 4] ids"))
    assert len(list(data)) == 1
    assert "has 3 tokens, but the model takes 4" in data.skipped[0].reason


def test_a_missing_tokenizer_is_asked_for(library: Path) -> None:
    (library.parent / "tokenizer.json").rename(library.parent / "other.json")
    with pytest.raises(UsageError, match="need a tokenizer: say where a tokenizer.json is"):
        open_calibration(library, texts(BERT))
    with pytest.raises(UsageError, match="there is no tokenizer 'nowhere.json'"):
        open_calibration(library, texts(BERT), preprocess="tokenizer=nowhere.json")
    assert len(open_calibration(library, texts(BERT), preprocess={"tokenizer": str(library.parent / "other.json")})) == 3


def test_a_broken_tokenizer_and_a_model_without_ids_are_refused(library: Path) -> None:
    with pytest.raises(UsageError, match="no input of token ids"):
        open_calibration(library, texts("float[batch, length] x"))
    with pytest.raises(UsageError, match="what the input 'image' takes"):
        open_calibration(library, texts("int64[batch, length] input_ids, float[3] image"))
    (library.parent / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read as a tokenizer"):
        open_calibration(library, texts(BERT))


def test_a_file_of_empty_lines_has_no_samples(library: Path) -> None:
    library.write_text("\n  \n")
    with pytest.raises(InputError, match="has no samples"):
        open_calibration(library, texts(BERT))


def test_bytes_that_are_no_text_are_refused(library: Path) -> None:
    library.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="no text in UTF-8"):
        open_calibration(library, texts(BERT))


@pytest.mark.parametrize(("package", "said"), [("PIL", "pip install pillow"), ("tokenizers", r"graphwright\[hf\]")])
def test_a_package_that_is_not_installed_is_named(package: str, said: str, folder: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    sources: dict[str, tuple[Path, ir.Model]] = {"PIL": (folder, images()), "tokenizers": (library, texts(BERT))}
    source, model = sources[package]
    with pytest.raises(BackendMissing, match=said) as caught:
        open_calibration(source, model, preprocess=IMAGENET)
    assert isinstance(caught.value, GraphwrightError)
