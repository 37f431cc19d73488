"""What commands take: models, inputs, dimensions, and things in a user's own Python file."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..compiler.core.errors import GraphwrightError, InputError, UsageError

if TYPE_CHECKING:
    from ..compiler.core.backend import Sample
    from ..compiler.core.tuning import Tuning
    from ..compiler.request import Request

Command = TypeVar("Command", bound=Callable[..., object])

PRECISIONS = ("fp32", "int8", "int8-dynamic", "int4", "nf4", "fp16", "bf16", "fp8", "mixed")
TARGETS = ("onnx", "cpu", "ort-cpu", "ort-cuda", "tvm-cpu", "tvm-cuda", "tvm-aarch64")

model_argument = click.argument("model")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")


class TargetName(click.Choice):
    """One of the targets, with what it may be told after a colon: ``ort-cuda:1``, ``tvm-aarch64:cortex-a76``."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as it is, when there is such a target."""
        super().convert(value.partition(":")[0], param, ctx)
        return value


def target_choice(default: str) -> Callable[[Command], Command]:
    """The option that names the target."""
    return click.option("--target", type=TargetName(TARGETS), default=default, show_default=True, help="What to compile for.")


target_option = target_choice("ort-cpu")
inputs_option = click.option(
    "--inputs", "inputs", multiple=True, metavar="FILE.npz", help="Example inputs: arrays named as the model's inputs. Repeat for more samples."
)
calibration_option = click.option(
    "--calibration",
    multiple=True,
    metavar="DATA",
    help="Real inputs: .npz files, a folder of them or of images, a text file; or 'random', which says less. Repeatable.",
)
preprocess_option = click.option(
    "--preprocess", metavar="SPEC", help="How images and texts become inputs: size=256,crop=224,mean=0.5,std=0.5 or tokenizer=FILE,length=128; samples=100."
)
dims_option = click.option("--dim", "dims", multiple=True, metavar="NAME=SIZE", help="The size of a symbolic dimension in generated inputs. Repeatable.")


def pipeline_options(command: Command) -> Command:
    """The options that say which passes run."""
    options = [
        click.option("--level", type=click.IntRange(0, 3), default=2, show_default=True, help="0 nothing, 1 cleanups and folds, 2 fusion, 3 measured search."),
        click.option("--pipeline", metavar="TEXT", help="Your own passes instead of a level: 'fold-constants,fuse{only=fuse-gelu}'."),
        click.option("--without", multiple=True, metavar="NAME", help="Leave out a pass or a rule. Repeatable."),
        click.option("--fast-math", is_flag=True, help="Allow rewrites that are only equal where both sides are defined."),
        click.option("--only", multiple=True, metavar="NAME", help="Run only this pass or rule. Repeatable."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def precision_options(command: Command) -> Command:
    """The options that say what is compressed, and how far that may go."""
    options = [
        click.option("--precision", type=click.Choice(PRECISIONS), default="fp32", show_default=True, help="Numeric format of weights and activations."),
        click.option("--method", metavar="NAME", help="How a lower precision finds its numbers: rtn, gptq, awq, ..."),
        click.option("--size", is_flag=True, help="A smaller model is wanted even if it is slower."),
        click.option("--budget", metavar="KIND=NUMBER", help="What --precision mixed may take: size=0.3, latency=0.8 (parts of what it is now) or drop=0.01."),
        calibration_option,
        preprocess_option,
        click.option("--max-drop", metavar="DROP", help="How far the metric, or likeness to the input, may drop: 0.01, or 0.5% of what it is now."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def reduction_options(command: Command) -> Command:
    """The options that take something out of a model, each with options of its pass behind its number: ``0.3,of=parameters,score=taylor``."""
    options = [
        click.option("--prune", metavar="RATIO", help="Take this part of the model out: channels, heads, neurons. Or RATIO,OPTION=VALUE,... of its pass."),
        click.option("--prune-of", metavar="WHAT", help="What --prune is a part of: flops, parameters, latency (measured), or members of each group."),
        click.option("--rank", metavar="RATIO", help="Store matrices as products of smaller ones, less this part of their numbers; or of this rank (32)."),
        click.option("--sparsity", metavar="PART", help="Make this part of the weights zero: 0.5, or 2:4. Or PART,OPTION=VALUE,..."),
        click.option("--recover", metavar="MINUTES", help="Then train for so long to answer as the input does. Or MINUTES,OPTION=VALUE,..."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def reduction_request(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request that those options mean. Raises UsageError for a measure without a ratio."""
    found = {name: options[name] for name in ("prune", "rank", "sparsity", "recover")}
    if options["prune_of"] is not None:
        if found["prune"] is None:
            raise UsageError("--prune-of says what a ratio is part of: give --prune too")
        found["prune"] = f"{found['prune']},of={options['prune_of']}"
    return found


def tuning_options(command: Command) -> Command:
    """The options that say how long generated kernels are tuned."""
    options = [
        click.option("--tune-trials", type=click.IntRange(1), metavar="N", help="Measure N schedules of the generated kernels, those of earlier runs counted."),
        click.option("--tune-minutes", type=click.FloatRange(0, min_open=True), metavar="M", help="Measure schedules of the generated kernels for M minutes."),
        click.option("--tune-database", metavar="FOLDER", help="Where tuning keeps what it finds, for all models; by default beside the cache."),
        click.option("--tune-device", default="", metavar="HOST:PORT/KEY", help="Measure on the devices that an RPC tracker knows as KEY."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def tuning_request(options: Mapping[str, Any]) -> Tuning:
    """What those options mean."""
    from ..compiler.core.tuning import Tuning

    folder = options.get("tune_database")
    return Tuning(options.get("tune_trials"), options.get("tune_minutes"), Path(folder) if folder else None, options.get("tune_device") or "")


def precision_request(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request that those options mean."""
    return {
        "precision": options["precision"],
        "method": options["method"],
        "size": options["size"],
        "allowance": options["budget"],
        "calibration": list(options["calibration"]) or None,
        "preprocess": options["preprocess"],
        "max_drop": options["max_drop"],
    }


def graph_request(options: Mapping[str, Any], tell: Callable[[str], None]) -> Request:
    """The request that the target, pipeline and seed options mean."""
    from ..compiler.request import Request

    pipeline = options.get("pipeline")
    return Request(
        target=options["target"],
        level=options["level"] if pipeline is None else pipeline,
        only=tuple(options["only"]),
        without=tuple(options["without"]),
        seed=options.get("seed", 0),
        fast_math=options.get("fast_math", False),
        progress=tell,
    )


def find_model(text: str) -> tuple[object, object]:
    """A model as named on the command line, with its example inputs if it brings any.

    A path stays a path; ``file.py:name`` is a module, a function that returns one, or one that returns (module, example inputs).
    """
    if not _names_object(text):
        path = Path(text)
        if not path.exists():
            raise UsageError(f"there is no file or folder '{text}'")
        return path, None
    found = load_object(text)
    if callable(found) and not _is_module(found):
        found = _call(text, found)
    if isinstance(found, tuple):
        if len(found) != 2:
            raise UsageError(f"'{text}' gave {len(found)} things; it must give a module, or a module and its example inputs")
        return found
    return found, None


def load_object(text: str) -> object:
    """What ``file.py:name`` names. Raises UsageError when there is no such file or name, GraphwrightError when the file itself fails."""
    place, _, name = text.rpartition(":")
    path = Path(place)
    if not path.is_file():
        raise UsageError(f"there is no file '{place}' (in '{text}')")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"'{place}' is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise GraphwrightError(f"'{place}' could not be run: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise UsageError(f"'{place}' has no '{name}'")
    return getattr(module, name)


def load_function(text: str, purpose: str) -> Callable[..., Any]:
    """The function that ``file.py:name`` names."""
    if not _names_object(text):
        raise UsageError(f"{purpose} takes file.py:function, not '{text}'")
    found = load_object(text)
    if not callable(found):
        raise UsageError(f"'{text}' is no function")
    return found


def read_samples(files: Iterable[str]) -> list[Sample] | None:
    """One sample for each .npz file; None when no file is given. Raises UsageError or InputError naming the file."""
    samples = [_read_sample(Path(file)) for file in files]
    return samples or None


def read_dims(items: Iterable[str]) -> dict[str, int]:
    """``batch=8`` -> {"batch": 8}."""
    dims: dict[str, int] = {}
    for item in items:
        name, equals, size = item.partition("=")
        if not (name and equals and size.isdigit()):
            raise UsageError(f"--dim takes NAME=SIZE, as in batch=8, not '{item}'")
        dims[name] = int(size)
    return dims


def _read_sample(path: Path) -> Sample:
    import numpy as np

    if not path.is_file():
        raise UsageError(f"there is no file '{path}' (--inputs)")
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            raise InputError(f"'{path}' holds one array without a name; save inputs with numpy.savez(file, name=array)")
        with content:
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"'{path}' cannot be read as .npz: {error}") from error


def _names_object(text: str) -> bool:
    place, colon, name = text.rpartition(":")
    return bool(colon) and place.endswith(".py") and name.isidentifier()


def _is_module(found: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(found, torch.nn.Module)


def _call(text: str, function: Callable[..., object]) -> object:
    try:
        return function()
    except Exception as error:
        raise GraphwrightError(f"'{text}' failed: {type(error).__name__}: {error}") from error


def plain_entries(found: Mapping[str, object]) -> dict[str, object]:
    """Report entries, alone or in lists, as JSON has them."""
    return {name: [_plain_entry(one) for one in item] if isinstance(item, list) else _plain_entry(item) for name, item in found.items()}


def _plain_entry(entry: object) -> object:
    return json.loads(entry.model_dump_json())  # type: ignore[attr-defined]


def plain_numbers(content: object) -> object:
    """Nested data without what JSON has not: infinities and NaN become texts, tuples lists."""
    if isinstance(content, float) and not math.isfinite(content):
        return "NaN" if math.isnan(content) else "Infinity" if content > 0 else "-Infinity"
    if isinstance(content, dict):
        return {key: plain_numbers(item) for key, item in content.items()}
    if isinstance(content, (list, tuple)):
        return [plain_numbers(item) for item in content]
    return content
