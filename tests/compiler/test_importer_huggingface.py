"""Local Hugging Face folders, without any network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from graphwright.compiler.core.errors import InputError, ModelError, UsageError  # noqa: E402
from graphwright.compiler.importer import Source, import_model  # noqa: E402
from graphwright.compiler.serialize import to_bytes  # noqa: E402

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20, "vocab_size": 50, "max_position_embeddings": 32}


def save(kind: str, config: str, folder: Path, **settings: object) -> object:
    """A model with random weights, in a folder."""
    torch.manual_seed(0)
    model = getattr(transformers, kind)(getattr(transformers, config)(**settings)).eval()
    model.save_pretrained(folder)
    return model


def answers(source: Source, **kwargs: object) -> object:
    session = ort.InferenceSession(to_bytes(source.model), providers=["CPUExecutionProvider"])
    return source.restore(session.run(None, source.arrange(**kwargs)))


def check(source: Source, model: object, **changed: torch.Tensor) -> None:
    """The imported model answers as the original, on the example inputs and on others."""
    example = {name: torch.from_numpy(array) for name, array in source.samples[0].items()}
    for inputs in (example, changed):
        with torch.no_grad():
            want = model(**inputs)[0]
        have = answers(source, **inputs)
        np.testing.assert_allclose(next(iter(have.values())), want.numpy(), rtol=1e-4, atol=1e-5)


def test_an_encoder_has_dynamic_batch_and_sequence(tmp_path: Path) -> None:
    model = save("BertModel", "BertConfig", tmp_path, **SMALL)
    source = import_model(tmp_path)
    assert source.kind == "huggingface" and source.path == tmp_path and source.warnings == ()
    assert [value.name for value in source.model.graph.inputs] == ["input_ids", "attention_mask", "token_type_ids"]
    assert all([str(dim) for dim in value.shape] == ["batch", "sequence"] for value in source.model.graph.inputs)
    assert [value.name for value in source.model.graph.outputs] == ["last_hidden_state", "pooler_output"]
    ids = torch.tensor([[3, 5, 7, 9, 11]])
    check(source, model, input_ids=ids, attention_mask=torch.ones_like(ids), token_type_ids=torch.zeros_like(ids))


def test_the_head_that_the_configuration_names_is_taken_and_the_cache_left_out(tmp_path: Path) -> None:
    model = save("LlamaForCausalLM", "LlamaConfig", tmp_path, **SMALL, num_key_value_heads=1)
    source = import_model(str(tmp_path))
    assert [value.name for value in source.model.graph.outputs] == ["logits"]
    ids = torch.tensor([[3, 5, 7]] * 4)
    check(source, model, input_ids=ids, attention_mask=torch.ones_like(ids))


def test_an_encoder_with_a_decoder_gets_inputs_for_both(tmp_path: Path) -> None:
    model = save("T5ForConditionalGeneration", "T5Config", tmp_path, d_model=16, d_kv=8, d_ff=20, num_layers=1, num_heads=2, vocab_size=50)
    source = import_model(tmp_path)
    assert [value.name for value in source.model.graph.inputs] == ["input_ids", "attention_mask", "decoder_input_ids"]
    ids = torch.tensor([[3, 5, 7, 1]])
    check(source, model, input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=ids[:, :2])


def test_a_vision_model_gets_images_of_its_size(tmp_path: Path) -> None:
    settings = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20, "image_size": 16, "patch_size": 8}
    model = save("ViTForImageClassification", "ViTConfig", tmp_path, **settings)
    source = import_model(tmp_path)
    assert [str(dim) for dim in source.model.graph.inputs[0].shape] == ["batch", "3", "16", "16"]
    check(source, model, pixel_values=torch.ones(3, 3, 16, 16))


def test_example_inputs_of_the_user_come_first(tmp_path: Path) -> None:
    save("BertModel", "BertConfig", tmp_path, **SMALL)
    source = import_model(tmp_path, {"input_ids": torch.tensor([[1, 2, 3], [4, 5, 6]])})
    assert list(source.samples[0]) == ["input_ids"] and source.samples[0]["input_ids"].shape == (2, 3)
    with pytest.raises(InputError, match="the module fails on the example inputs"):
        import_model(tmp_path, {"words": torch.tensor([[1, 2]])})


def test_half_precision_weights_are_widened_and_that_is_told(tmp_path: Path) -> None:
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(**SMALL)).half().save_pretrained(tmp_path)
    source = import_model(tmp_path)
    assert source.warnings == ("the weights are stored as float16; they were widened to float32",)
    assert source.expected[0][0].dtype == np.float32


def test_missing_weights_are_an_error_and_not_random(tmp_path: Path) -> None:
    save("BertModel", "BertConfig", tmp_path, **SMALL)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["BertForSequenceClassification"]}))
    with pytest.raises(ModelError, match=r"lacks 2 weights of a BertForSequenceClassification \(classifier.bias, classifier.weight\)"):
        import_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["NoSuchModel"]}, "is a NoSuchModel, which transformers .* does not have"),
        ({"auto_map": {"AutoModel": "code.Model"}}, "needs code of its own, which is not run"),
        ({"hidden_size": 24}, "cannot be loaded"),
    ],
)
def test_a_configuration_that_cannot_be_used(change: dict[str, object], message: str, tmp_path: Path) -> None:
    save("BertModel", "BertConfig", tmp_path, **SMALL)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ModelError, match=message) as caught:
        import_model(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_incomplete(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        import_model(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="is not a model configuration"):
        import_model(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.onnx").touch()
    with pytest.raises(ModelError, match="no .safetensors weights; it has model.onnx"):
        import_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match="cannot be loaded"):
        import_model(tmp_path)


def test_dynamic_shapes_are_its_own_business(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="by itself"):
        import_model(tmp_path, dynamic_shapes={"input_ids": {0: "n"}})
