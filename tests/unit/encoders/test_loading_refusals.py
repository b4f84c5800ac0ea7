"""What is dangerous or damaged in a model folder is refused, with one error that names it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.testing import assert_allclose
from safetensors.torch import load_file, save_file

from sentence_transformers import SentenceTransformer
from sentence_transformers.errors import ModelFileError, UntrustedCodeError
from tests.unit.encoders.folders import (
    OLD_MEAN,
    POOLING,
    TEXTS,
    TRANSFORMER,
    entries,
    read_json,
    write_json,
)

Make = Callable[..., Path]
NEW = "sentence_transformers.sentence_transformer.modules."
BASE = "sentence_transformers.base.modules."


def opened(folder: Path, **arguments: Any) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu", **arguments)


# --- trust


def test_a_class_we_do_not_have_is_an_import_error(make_folder: Make) -> None:
    with pytest.raises(ImportError, match=r"No module class 'sentence_transformers.models.Nope'"):
        opened(make_folder(modules=entries(TRANSFORMER, "sentence_transformers.models.Nope")))


def test_a_foreign_class_is_refused(make_folder: Make) -> None:
    with pytest.raises(UntrustedCodeError, match="trust_remote_code=True") as caught:
        opened(make_folder(modules=entries(TRANSFORMER, POOLING, "somebody.Else")))
    assert isinstance(caught.value, ValueError)
    assert "references the module class 'somebody.Else', which is not part of Sentence Transformers" in str(
        caught.value
    )


CODE = """
import torch
class Doubled(torch.nn.Module):
    def forward(self, features):
        features["sentence_embedding"] = features["sentence_embedding"] * 2
        return features
    def save(self, path):
        pass
    @staticmethod
    def load(path):
        return Doubled()
"""


@pytest.fixture
def folder_with_code(make_folder: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A model whose third module is a class in a file of its own folder."""
    import transformers.dynamic_module_utils

    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "code"))
    folder = make_folder(modules=entries(TRANSFORMER, POOLING, "doubling_of_a_test.Doubled"))
    (folder / "2_Doubled").mkdir()
    (folder / "doubling_of_a_test.py").write_text(CODE, encoding="utf-8")
    return folder


def test_code_of_a_folder_is_not_run(folder_with_code: Path) -> None:
    (folder_with_code / "doubling_of_a_test.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    with pytest.raises(UntrustedCodeError, match="trust_remote_code=True"):
        opened(folder_with_code)


def test_trusted_code_of_a_folder_is_run(folder_with_code: Path, bert: SentenceTransformer) -> None:
    model = opened(folder_with_code, trust_remote_code=True)
    assert model.trust_remote_code
    assert_allclose(model.encode(TEXTS), bert.encode(TEXTS) * 2, rtol=0, atol=4e-6)


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "/etc",
        "a\0b",
        "C:\\x",
        "C:x",
        "1_Pooling/../../x",
        "1_Pooling/../1_Pooling",
        "..\\x",
        "\\\\host\\share",
        "\\x",
    ],
)
def test_a_path_out_of_the_folder_is_refused(path: str, make_folder: Make) -> None:
    first, second = entries(TRANSFORMER, POOLING)
    with pytest.raises(UntrustedCodeError, match="Invalid model path") as caught:
        opened(make_folder(modules=[first, {**second, "path": path}]))
    assert repr(path) in str(caught.value)


def test_a_link_out_of_the_folder_is_refused(make_folder: Make) -> None:
    elsewhere, folder = make_folder(), make_folder()
    shutil.rmtree(folder / "1_Pooling")
    (folder / "1_Pooling").symlink_to(elsewhere / "1_Pooling")
    with pytest.raises(UntrustedCodeError, match="is a link to"):
        opened(folder)


class Marker:
    """Unpickling one writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_that_would_run_code_is_refused(make_folder: Make, tmp_path: Path) -> None:
    folder, mark = make_folder(), tmp_path / "it-ran"
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Marker(mark)}, folder / "pytorch_model.bin")
    with pytest.raises(ModelFileError, match="pytorch_model.bin"):
        opened(folder)
    assert not mark.exists()


# --- damage: one error that names the file, and what is wrong with it


def change_weights(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def rewrite(name: str, text: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(text, encoding="utf-8")


def merge(name: str, **values: Any) -> Callable[[Path], Any]:
    return lambda folder: write_json(folder / name, {**read_json(folder / name), **values})


MATRIX = "encoder.layer.1.output.dense.weight"
DAMAGE: dict[str, tuple[Callable[[Path], Any], str, tuple[str, ...]]] = {
    "modules.json is not JSON": (rewrite("modules.json", "[{"), "modules.json", ("line 1", "expected JSON")),
    "modules.json is empty": (rewrite("modules.json", ""), "modules.json", ("line 1", "expected JSON")),
    "modules.json is an object": (rewrite("modules.json", "{}"), "modules.json", ("JSON list", "an object")),
    "modules.json has no modules": (rewrite("modules.json", "[]"), "modules.json", ("at least one module", "none")),
    "modules.json has strings": (rewrite("modules.json", '["a"]'), "modules.json", ("item 0", "a string")),
    "a module has no type": (
        lambda folder: write_json(folder / "modules.json", [{"idx": 0, "name": "0", "path": ""}]),
        "modules.json",
        ("'type'",),
    ),
    "config.json is missing": (lambda folder: (folder / "config.json").unlink(), "config.json", ("missing",)),
    "config.json is not JSON": (rewrite("config.json", '{\n"a": }'), "config.json", ("line 2", "expected JSON")),
    "config.json is a list": (rewrite("config.json", "[]"), "config.json", ("JSON object", "a list")),
    "config.json has another width": (
        merge("config.json", hidden_size=64),
        "model.safetensors",
        ("'embeddings.word_embeddings.weight'", "64)", "found (", "32)"),
    ),
    "config.json has more layers": (
        merge("config.json", num_hidden_layers=9),
        "model.safetensors",
        ("'encoder.layer.3.", "found none"),
    ),
    "there are no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        "No weights in",
        ("model.safetensors", "pytorch_model.bin"),
    ),
    "the weights are empty": (rewrite("model.safetensors", ""), "model.safetensors", ("is empty",)),
    "the weights are cut off": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:9000]),
        "model.safetensors",
        ("damaged", "9000 bytes"),
    ),
    "the weights are something else": (rewrite("model.safetensors", "x" * 500), "model.safetensors", ("damaged",)),
    "the weights are a pointer": (
        rewrite("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"),
        "model.safetensors",
        ("git lfs pull",),
    ),
    "a matrix is missing": (
        lambda folder: change_weights(folder, lambda weights: weights.pop(MATRIX)),
        "model.safetensors",
        (repr(MATRIX), "(32, 48)", "found none"),
    ),
    "a matrix has another shape": (
        lambda folder: change_weights(folder, lambda weights: weights.update({MATRIX: torch.zeros(3, 3)})),
        "model.safetensors",
        (repr(MATRIX), "(32, 48)", "(3, 3)"),
    ),
    "tokenizer.json is not JSON": (rewrite("tokenizer.json", "{"), "tokenizer.json", ("damaged",)),
    "tokenizer_config.json is not JSON": (rewrite("tokenizer_config.json", "{"), "tokenizer_config.json", ("line 1",)),
    "1_Pooling/config.json is not JSON": (rewrite("1_Pooling/config.json", "{"), "1_Pooling/config.json", ("line 1",)),
    "1_Pooling/config.json is a list": (rewrite("1_Pooling/config.json", "[]"), "1_Pooling/config.json", ("a list",)),
    "sentence_bert_config.json is not JSON": (
        rewrite("sentence_bert_config.json", "{"), "sentence_bert_config.json", ("line 1",),
    ),
    "max_seq_length is a string": (
        merge("sentence_bert_config.json", max_seq_length="long"),
        "sentence_bert_config.json",
        ("'max_seq_length'", "a whole number", "a string"),
    ),
    "model_args is a string": (
        merge("sentence_bert_config.json", model_args="x"),
        "sentence_bert_config.json",
        ("'model_args'", "an object", "a string"),
    ),
    "config_sentence_transformers.json is not JSON": (
        rewrite("config_sentence_transformers.json", "{"), "config_sentence_transformers.json", ("line 1",),
    ),
    "config_sentence_transformers.json is a list": (
        rewrite("config_sentence_transformers.json", "[]"), "config_sentence_transformers.json", ("a list",),
    ),
    "prompts are a list": (
        merge("config_sentence_transformers.json", prompts=["a"]),
        "config_sentence_transformers.json",
        ("'prompts'", "a list"),
    ),
    "a prompt is a number": (
        merge("config_sentence_transformers.json", prompts={"query": 5}),
        "config_sentence_transformers.json",
        ("'prompts'",),
    ),
    "default_prompt_name is a list": (
        merge("config_sentence_transformers.json", default_prompt_name=["a"]),
        "config_sentence_transformers.json",
        ("'default_prompt_name'", "a string", "a list"),
    ),
    "truncate_dim is a string": (
        merge("config_sentence_transformers.json", truncate_dim="8"),
        "config_sentence_transformers.json",
        ("'truncate_dim'", "a whole number", "a string"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_one_error_that_names_the_file(what: str, make_folder: Make) -> None:
    damage, file, words = DAMAGE[what]
    folder = make_folder(transformer={"max_seq_length": 9}, config={"prompts": {}})
    damage(folder)
    with pytest.raises(ModelFileError) as caught:
        opened(folder)
    message = str(caught.value)
    assert all(word in message for word in (str(folder), file, *words)), message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda weights: weights.pop("linear.bias"), ("'linear.bias'", "expected (4)", "found nothing")),
        (lambda weights: weights.update(extra=torch.zeros(1)), ("'extra'", "expected nothing", "found (1)")),
        (
            lambda weights: weights.update({"linear.weight": torch.zeros(4, 9)}),
            ("'linear.weight'", "(4, 32)", "(4, 9)"),
        ),
    ],
    ids=["missing", "extra", "shape"],
)
def test_weights_that_do_not_fit_a_module(
    change: Callable[[dict[str, Any]], Any], words: tuple[str, ...], dense_folder: Path
) -> None:
    change_weights(dense_folder / "2_Dense", change)
    with pytest.raises(ModelFileError) as caught:
        opened(dense_folder)
    message = str(caught.value)
    assert all(word in message for word in (str(dense_folder / "2_Dense" / "model.safetensors"), *words)), message


@pytest.mark.parametrize(
    "pooling", [{}, {"pooling_mode": "cls"}, {**OLD_MEAN, "unknown": 1}], ids=["empty", "key missing", "key unknown"]
)
def test_keys_that_do_not_fit_a_module(pooling: dict[str, Any], make_folder: Make) -> None:
    with pytest.raises(ModelFileError, match=r"1_Pooling"):
        opened(make_folder(pooling=pooling))


def test_nothing_of_a_damaged_model_changes_the_folder(make_folder: Make) -> None:
    folder = make_folder()
    (folder / "model.safetensors").write_bytes(b"")
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    with pytest.raises(ModelFileError):
        opened(folder)
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before
