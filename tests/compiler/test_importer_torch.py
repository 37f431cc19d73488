"""torch modules and exported programs: both exporters, nested arguments and results, and nothing of the caller's changed."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import onnxruntime as ort
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from graphwright.compiler.core.errors import ExportError, InputError, UsageError  # noqa: E402
from graphwright.compiler.importer import Source, import_model  # noqa: E402
from graphwright.compiler.serialize import to_bytes  # noqa: E402


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.norm(self.line(x)))


class Nested(nn.Module):
    """Takes and gives dicts, lists, numbers and nothing; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(
        self, x: Tensor, parts: Mapping[str, Tensor] | None = None, *, scale: float = 2.0, extra: list[Tensor] | None = None, **more: Tensor
    ) -> dict[str, object]:
        self.calls += 1
        y = x * scale
        if parts is not None:
            y = y + parts["a"] - parts["b"]
        for item in extra or []:
            y = y * item
        for item in more.values():
            y = y + item
        return {"y": y, "more": (y + 1, [x, None, 7]), "again": y}


class Branching(nn.Module):
    """torch.export refuses it: which way it goes depends on a value."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if bool(x.sum() > 0) else x - 1


class Inexpressible(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvals(x)


def answers(source: Source, *args: object, **kwargs: object) -> object:
    """What the imported model says to a call, in the module's own form."""
    session = ort.InferenceSession(to_bytes(source.model), providers=["CPUExecutionProvider"])
    return source.restore(session.run(None, source.arrange(*args, **kwargs)))


def close(have: np.ndarray, want: Tensor) -> None:
    np.testing.assert_allclose(have, want.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_module_comes_in_with_its_example_and_its_own_answer() -> None:
    module, x = Plain().eval(), torch.randn(2, 4)
    source = import_model(module, (x,))
    assert source.kind == "module" and source.path is None and source.warnings == ()
    assert [value.name for value in source.model.graph.inputs] == ["x"] and [value.name for value in source.model.graph.outputs] == ["output"]
    np.testing.assert_array_equal(source.samples[0]["x"], x.numpy())
    close(source.expected[0][0], module(x))
    close(answers(source, x), module(x))
    assert {"line.weight", "line.bias"} <= set(source.model.graph.initializers)


def test_only_the_dimensions_asked_for_are_dynamic() -> None:
    module, x = Plain().eval(), torch.randn(2, 4)
    assert import_model(module, x).model.graph.inputs[0].shape == (2, 4)
    source = import_model(module, x, dynamic_shapes={"x": {0: "batch"}})
    assert [str(dim) for dim in source.model.graph.inputs[0].shape] == ["batch", "4"]
    close(answers(source, torch.ones(5, 4)), module(torch.ones(5, 4)))
    with pytest.raises(InputError, match=r"has the shape \[batch, 4\], which \[5, 3\] does not fit"):
        source.arrange(torch.ones(5, 3))


def test_dynamic_dimensions_may_be_torch_dims() -> None:
    batch = torch.export.Dim("rows", min=1, max=64)
    source = import_model(Plain().eval(), (torch.randn(2, 4),), dynamic_shapes=({0: batch},))
    assert [str(dim) for dim in source.model.graph.inputs[0].shape] == ["rows", "4"]


def test_a_module_in_training_mode_is_exported_in_eval_mode_and_stays_as_it_is() -> None:
    module, x = Plain().train(), torch.randn(2, 4)
    module.drop.eval()
    module.line.weight.grad = torch.ones_like(module.line.weight)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    random = torch.get_rng_state()
    source = import_model(module, (x,))
    assert module.training and module.norm.training and not module.drop.training
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert torch.equal(module.line.weight.grad, torch.ones_like(module.line.weight)) and module.line.bias.grad is None
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert source.warnings == ("the module was in training mode; it was exported in eval mode",)
    close(answers(source, x), module.eval()(x))


def test_what_stands_behind_an_exported_program_is_in_eval_mode_too() -> None:
    program = torch.export.export(nn.Linear(4, 4).eval(), (torch.ones(2, 4),)).module()
    module, x = nn.Sequential(program, nn.Dropout(0.5)), torch.randn(2, 4)
    close(answers(import_model(module, x), x), program(x))
    assert module[1].training


def test_nested_arguments_and_results_keep_their_form() -> None:
    module, x = Nested(), torch.randn(2, 3)
    parts = {"a": torch.randn(2, 3), "b": torch.randn(3)}
    call = ((x, parts), {"scale": 3.0, "extra": [torch.randn(2, 3)], "bias": torch.randn(3)})
    source = import_model(module, call)
    assert module.calls == 0
    assert [value.name for value in source.model.graph.inputs] == ["x", "parts.a", "parts.b", "extra.0", "more.bias"]
    assert [value.name for value in source.model.graph.outputs] == ["y", "more.0", "more.1.0", "again"]
    have, want = answers(source, *call[0], **call[1]), module(*call[0], **call[1])
    assert list(have) == ["y", "more", "again"] and isinstance(have["more"], tuple) and have["more"][1][1:] == [None, 7]
    for have_leaf, want_leaf in ((have["y"], want["y"]), (have["more"][0], want["more"][0]), (have["more"][1][0], x), (have["again"], want["again"])):
        close(have_leaf, want_leaf)


def test_keyword_arguments_are_a_dict() -> None:
    x = torch.randn(2, 3)
    source = import_model(Nested(), {"x": x, "parts": {"a": x, "b": x}})
    assert list(source.samples[0]) == ["x", "parts.a", "parts.b"]
    close(answers(source, x, parts={"a": x.numpy(), "b": x})["y"], 2 * x)


def test_nested_dynamic_shapes_follow_the_arguments() -> None:
    x, rows = torch.randn(2, 3), {0: "rows"}
    call = ((x, {"a": x, "b": torch.ones(3)}), {"extra": [x], "bias": torch.ones(3)})
    source = import_model(Nested(), call, dynamic_shapes={"x": rows, "parts": {"a": rows, "b": None}, "extra": [rows]})
    assert [str(value.shape[0]) for value in source.model.graph.inputs] == ["rows", "rows", "3", "rows", "3"]
    longer = torch.randn(5, 3)
    have = answers(source, longer, {"a": longer, "b": torch.ones(3)}, extra=[longer], bias=torch.ones(3))
    close(have["y"], (2 * longer + longer - 1) * longer + 1)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"z": {0: "n"}}, "speaks of 'z', but the module takes: x"),
        (({0: "n"}, None), "has 2 entries, but the module takes 1"),
        ({"x": {5: "n"}}, "gives 'x' the axis 5, but it has 2 dimensions"),
        ({"x": "n"}, "gives 'x' a str"),
        ("n", "is a str"),
    ],
)
def test_dynamic_shapes_that_do_not_fit_the_arguments(shapes: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        import_model(Plain().eval(), torch.randn(2, 4), dynamic_shapes=shapes)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (None, "needs example inputs"),
        ((torch.ones(2),), "fails on the example inputs: RuntimeError"),
        ((torch.ones(2, 4), torch.ones(1)), "is not called like this: too many positional arguments"),
        ({"z": torch.ones(2, 4)}, "is not called like this"),
    ],
)
def test_example_inputs_that_the_module_does_not_take(example: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        import_model(Plain().eval(), example)


def test_a_call_of_another_kind_is_refused() -> None:
    source = import_model(Nested(), torch.ones(2, 3))
    with pytest.raises(InputError, match=r"exported with the constant 2.0, but is called with 5.0: export it again"):
        source.arrange(torch.ones(2, 3), scale=5.0)
    with pytest.raises(InputError, match="was exported for the tensors"):
        source.arrange(torch.ones(2, 3), extra=[torch.ones(2, 3)])
    with pytest.raises(InputError, match=r"has the shape \[2, 3\]"):
        source.arrange(torch.ones(4, 3))
    assert list(source.arrange(x=np.ones((2, 3), np.float32), scale=2.0)) == ["x"]


def test_what_torch_export_refuses_is_traced_and_the_doubt_is_told() -> None:
    source = import_model(Branching(), torch.ones(3))
    assert len(source.warnings) == 1 + Branching().training
    assert "was traced" in source.warnings[-1] and "test_importer_torch.py" in source.warnings[-1]
    close(answers(source, torch.ones(3)), torch.full((3,), 2.0))


def test_tracing_keeps_dynamic_dimensions_and_nested_results() -> None:
    class Traced(Branching):
        def forward(self, x: Tensor, *, bias: Tensor) -> dict[str, object]:
            y = super().forward(x) + bias
            return {"a": (y, None), "b": [y * 2]}

    source = import_model(Traced().eval(), ((torch.ones(2, 3),), {"bias": torch.ones(3)}), dynamic_shapes={"x": {0: "rows"}})
    assert [[str(dim) for dim in value.shape] for value in source.model.graph.inputs] == [["rows", "3"], ["3"]]
    have = answers(source, torch.ones(5, 3), bias=torch.zeros(3))
    assert have["a"][1] is None
    close(have["a"][0], torch.full((5, 3), 2.0))
    close(have["b"][0], torch.full((5, 3), 4.0))


def test_what_neither_exporter_takes_is_an_export_error_with_both_reasons() -> None:
    with pytest.raises(ExportError, match='torch.export says ".*linalg_eig.*", and tracing says ".*linalg_eig') as caught:
        import_model(Inexpressible().eval(), torch.eye(3))
    assert "\n" not in str(caught.value)


def test_a_module_without_tensor_results_is_an_export_error() -> None:
    class Number(nn.Module):
        def forward(self, x: Tensor) -> int:
            return x.shape[0]

    with pytest.raises(ExportError, match="returns no tensor, but a int"):
        import_model(Number().eval(), torch.ones(3))


def test_the_exporters_stay_silent() -> None:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        import_model(Branching().eval(), torch.ones(3))
    assert (out.getvalue(), err.getvalue()) == ("", "")


def test_a_script_module_is_a_usage_error() -> None:
    class Scripted(torch.jit.ScriptModule):
        pass

    with pytest.raises(UsageError, match="give the torch module that it was made from"):
        import_model(Scripted(), torch.ones(3))


class Program(nn.Module):
    def forward(self, x: Tensor, times: int, unused: Tensor | None = None, *, mask: Tensor) -> dict[str, object]:
        return {"y": x * times + mask, "more": [x, None]}


def test_an_exported_program_has_its_own_example_inputs() -> None:
    x, mask = torch.randn(2, 4), torch.ones(2, 4)
    program = torch.export.export(Program(), (x, 3), {"mask": mask})
    source = import_model(program)
    assert source.kind == "program" and list(source.samples[0]) == ["x", "mask"]
    close(answers(source, x, 3, mask=mask)["y"], 3 * x + 1)
    close(answers(source, x, times=3, mask=mask)["more"][0], x)
    assert answers(source, x, 3, mask=mask)["more"][1] is None
    with pytest.raises(InputError, match="exported with the constant 3, but is called with 4"):
        source.arrange(x, 4, mask=mask)
    assert list(import_model(program, ((x, 3), {"mask": mask})).samples[0]) == ["x", "mask"]


def test_an_exported_program_keeps_its_dynamic_shapes_and_numbers() -> None:
    dynamic, x = torch.export.Dim.DYNAMIC, torch.randn(2, 4)
    shapes = {"x": {0: dynamic}, "times": dynamic, "unused": None, "mask": {0: dynamic}}
    program = torch.export.export(Program(), (x, 3, torch.ones(1)), {"mask": torch.ones(2, 4)}, dynamic_shapes=shapes)
    source = import_model(program)
    assert [value.name for value in source.model.graph.inputs] == ["x", "times", "unused", "mask"]
    longer = torch.randn(6, 4)
    close(answers(source, longer, 5, torch.ones(1), mask=torch.ones(6, 4))["y"], 5 * longer + 1)
    with pytest.raises(UsageError, match="has its dynamic shapes already"):
        import_model(program, dynamic_shapes={"x": {0: "n"}})


def test_an_exported_program_that_returns_a_number_is_exported_once_more() -> None:
    class Sized(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, int]:
            return x + 1, x.shape[0]

    program = torch.export.export(Sized(), (torch.ones(3, 2),))
    source = import_model(program)
    have = answers(source, torch.ones(3, 2))
    assert source.kind == "program" and have[1] == 3
    close(have[0], torch.full((3, 2), 2.0))


def test_a_list_of_dicts_is_a_list_of_samples_and_the_first_is_exported() -> None:
    first, second = {"x": torch.ones(2, 4)}, {"x": torch.zeros(2, 4)}
    source = import_model(Plain().eval(), [first, second])
    assert [float(sample["x"].sum()) for sample in source.samples] == [8.0, 0.0]
    with pytest.raises(InputError, match=r"'x' has the shape \[2, 4\], which \[3, 4\] does not fit"):
        import_model(Plain().eval(), [first, {"x": torch.zeros(3, 4)}])
