"""The Transformer module: any text, limits, both layouts, what is on its surface, saving and opening."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import texts
import tiny
import torch

from sentence_transformers import SentenceTransformer
from sentence_transformers.errors import ModelFileError
from sentence_transformers.modules.transformer import Transformer
from sentence_transformers.ops.tokens import Packed

TinyFolder = Callable[[str], Path]

GIANTS = {
    "no spaces": "x" * 10**6,
    "many words": "a b " * 300_000,
    "blanks": " " * 10**6,
    "Chinese": "東京" * 500_000,
    "NUL": "\x00" * 10**6,
}
STRANGE = [
    "", " ", "\ud800", "a \udfff b", "\ud83d\ude00", "\x00", "a\x00b", "😀" * 50, "👩‍👩‍👧‍👦", "أين أقرب محطة قطار؟",
    "left שלום right",
    "\u202eRTL", "\ufeff", "e\u0301" * 40, "\U0010ffff", "[CLS] [SEP] [PAD]", "<s></s><pad>", "\r\n\t",
]  # fmt: skip


@pytest.fixture
def bert(tiny_folder: TinyFolder) -> Transformer:
    return Transformer(str(tiny_folder("bert")))


# --- any text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "modernbert", "qwen3", "llama", "t5", "gpt2"])
def test_strange_texts_encode_alone_and_together(family: str, tiny_model: Callable[[str], Any]) -> None:
    model = tiny_model(family)
    together = model.encode(STRANGE)
    assert np.isfinite(together).all()
    alone = np.stack([model.encode(text) for text in STRANGE])
    np.testing.assert_allclose(together, alone, rtol=0, atol=5e-6)


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "qwen3", "t5"])
@pytest.mark.parametrize("name", sorted(GIANTS))
def test_giants_encode(family: str, name: str, tiny_model: Callable[[str], Any]) -> None:
    model = tiny_model(family)
    limit = model.max_seq_length or tiny.WINDOW
    rows = model.encode(
        [GIANTS[name], "a cat"], on_truncate="ignore", processing_kwargs={"text": {"max_length": limit}}
    )
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(rows[1], model.encode("a cat"), rtol=0, atol=5e-6)


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_no_tokens_at_all(family: str, tiny_folder: TinyFolder, tmp_path: Path) -> None:
    """A tokenizer without special tokens gives the empty string none."""
    path = tmp_path / "bare"
    shutil.copytree(tiny_folder(family), path)
    tokenizer = json.loads((path / "tokenizer.json").read_text("utf-8"))
    (path / "tokenizer.json").write_text(json.dumps({**tokenizer, "post_processor": None}), encoding="utf-8")
    model = SentenceTransformer(str(path), device="cpu")
    rows = model.encode(["", "a cat", ""])
    assert np.isfinite(rows).all()
    assert np.abs(rows[[0, 2]]).max() == 0
    np.testing.assert_allclose(model.encode("a cat"), rows[1], rtol=0, atol=5e-6)
    assert np.abs(model.encode(["", ""])).max() == 0
    assert model.encode("").shape == rows[0].shape


# --- limits -----------------------------------------------------------------------------------------------------------


def test_the_limit_is_counted_with_special_tokens(bert: Transformer) -> None:
    bert.max_seq_length = 7
    prepared = bert.prepare(["x " * 50, "x", "x " * 5, "x " * 6])
    assert prepared.sizes.tolist() == [7, 3, 7, 7]
    assert (len(prepared.cut), prepared.limit) == (2, 7)


@pytest.mark.parametrize(
    ("of_the_module", "of_the_call", "limit"),
    [
        ({}, {"text": {"max_length": 6}}, 6),
        ({}, {"common": {"max_length": 5}}, 5),
        ({"text": {"max_length": 9}}, None, 9),
        ({"text": {"max_length": 9}}, {"text": {"max_length": 6}}, 6),
        ({"common": {"max_length": 9}}, {"text": {}}, 9),
        ({}, None, 64),
    ],
)
def test_max_length_of_a_call(of_the_module: Any, of_the_call: Any, limit: int, tiny_folder: TinyFolder) -> None:
    module = Transformer(str(tiny_folder("bert")), processing_kwargs=of_the_module)
    features = module.preprocess(["x " * 100], processing_kwargs=of_the_call)
    assert features["input_ids"].shape == (1, limit)
    assert module.prepare(["x " * 100], processing_kwargs=of_the_call).sizes.tolist() == [limit]
    assert module.max_seq_length == 64


def test_a_limit_beyond_the_table_of_positions_is_one_clear_error(tiny_folder: TinyFolder) -> None:
    model = SentenceTransformer(str(tiny_folder("bert")), device="cpu")
    model.max_seq_length = 100
    with pytest.raises(ValueError, match=r"at most 64 tokens.*Set model\.max_seq_length = 64 or less"):
        model.encode(["x", "x " * 90])
    assert model.encode("x " * 50).shape == (32,)


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "mpnet"])
def test_a_tokenizer_without_a_limit_takes_that_of_the_network(
    family: str, tiny_folder: TinyFolder, tmp_path: Path
) -> None:
    path = tmp_path / "model"
    shutil.copytree(tiny_folder(family), path)
    config = json.loads((path / "tokenizer_config.json").read_text("utf-8"))
    del config["model_max_length"]
    (path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    model = SentenceTransformer(str(path), device="cpu")
    assert model.max_seq_length == tiny.WINDOW
    assert model.encode("the cat " * 200, on_truncate="ignore").shape == (32,)


def test_a_limit_smaller_than_the_special_tokens_is_one_clear_error(bert: Transformer) -> None:
    bert.max_seq_length = 1
    with pytest.raises(ValueError, match="room for the 2 special tokens"):
        bert.preprocess(["a cat"])


# --- both layouts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_packed_and_padded_are_the_same(family: str, tiny_folder: TinyFolder) -> None:
    module = Transformer(str(tiny_folder(family))).eval()
    inputs = texts.TINY_TEXTS[:7]
    with torch.inference_mode():
        packed = module(module.prepare(inputs).batch(np.arange(len(inputs))))["token_embeddings"]
        features = module(module.preprocess(inputs))
    assert isinstance(packed, Packed)
    real = features["attention_mask"] != 0
    assert torch.allclose(features["token_embeddings"][real], packed.values, rtol=0, atol=5e-6)


@pytest.mark.parametrize("family", ["bert", "qwen3", "modernbert", "mpnet"])
def test_with_gradients_and_without_are_the_same(family: str, tiny_folder: TinyFolder) -> None:
    module = Transformer(str(tiny_folder(family))).eval()
    features = module.preprocess(texts.TINY_TEXTS[:7])
    real = features["attention_mask"] != 0
    with_gradients = module(dict(features))["token_embeddings"]
    with torch.no_grad():
        without = module(dict(features))["token_embeddings"]
    assert with_gradients.requires_grad
    assert not without.requires_grad
    assert torch.allclose(with_gradients[real], without[real], rtol=0, atol=5e-6)


@pytest.mark.parametrize("built", [False, True])
def test_every_layer_when_the_config_asks(built: bool, tiny_folder: TinyFolder) -> None:
    model = SentenceTransformer(str(tiny_folder("bert")), device="cpu", config_kwargs={"output_hidden_states": True})
    if built:
        _ = model[0].auto_model
    features = model.preprocess(["a cat", "x"])
    with torch.no_grad():
        out = model(dict(features))
    assert len(out["all_layer_embeddings"]) == 4
    assert torch.equal(out["all_layer_embeddings"][-1], out["token_embeddings"])
    out = model(dict(features))
    assert len(out["all_layer_embeddings"]) == 4
    assert model.encode(["a cat", "x"]).shape == (2, 32)


def test_features_of_others_pass_through(bert: Transformer) -> None:
    with torch.no_grad():
        out = bert({**bert.preprocess(["a cat"], prompt="find "), "mine": 5})
    assert (out["mine"], out["modality"]) == (5, "text")
    assert out["prompt_length"] == bert.text.processor.prompt_length("find ")  # type: ignore[union-attr]


def test_a_prompt_stands_before_texts_and_before_the_first_of_a_pair(bert: Transformer) -> None:
    plain = bert.preprocess(["find a cat"])["input_ids"]
    assert torch.equal(bert.preprocess(["a cat"], prompt="find ")["input_ids"], plain)
    pair = bert.preprocess([("find a", "cat")])["input_ids"]
    assert torch.equal(bert.preprocess([("a", "cat")], prompt="find ")["input_ids"], pair)


def test_an_output_of_another_name(tiny_folder: TinyFolder) -> None:
    module = Transformer(str(tiny_folder("bert")), module_output_name="mine").eval()
    with torch.no_grad():
        assert module(module.preprocess(["a cat"]))["mine"].shape[-1] == 32


# --- surface ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "width"), [("bert", 32), ("distilbert", 32), ("t5", 32), ("gpt2", 32)])
def test_width(family: str, width: int, tiny_folder: TinyFolder) -> None:
    assert Transformer(str(tiny_folder(family))).get_embedding_dimension() == width


def test_old_name_of_the_width(bert: Transformer) -> None:
    with pytest.warns(FutureWarning):
        assert bert.get_word_embedding_dimension() == 32


def test_the_config_is_that_of_transformers(bert: Transformer) -> None:
    assert bert.config.hidden_size == 32
    assert type(bert.config).__name__ == "BertConfig"


@pytest.mark.parametrize(
    ("old", "value"),
    [("model_args", {"dtype": "float16"}), ("tokenizer_args", {"model_max_length": 9}),
     ("config_args", {"num_hidden_layers": 1})],
)  # fmt: skip
def test_old_names_of_arguments_warn_and_work(old: str, value: Any, tiny_folder: TinyFolder) -> None:
    with pytest.warns(FutureWarning, match=old):
        module = Transformer(str(tiny_folder("bert")), **{old: value})
    if old == "model_args":
        assert module.dtype is torch.float16
    elif old == "tokenizer_args":
        assert module.max_seq_length == 9
    else:
        assert module.pretrained.config["num_hidden_layers"] == 1


def test_the_settings_of_the_caller_are_left_alone(tiny_folder: TinyFolder) -> None:
    settings = {"dtype": "float32", "trust_remote_code": False, "local_files_only": True}
    given = dict(settings)
    Transformer(str(tiny_folder("bert")), model_kwargs=given)
    assert given == settings


def test_unknown_arguments_are_refused(tiny_folder: TinyFolder) -> None:
    with pytest.raises(TypeError, match="max_length"):
        Transformer(str(tiny_folder("bert")), max_length=5)  # type: ignore[call-arg]


@pytest.mark.parametrize(("name", "value"), [("transformer_task", "any-to-any"), ("backend", "tensorflow")])
def test_unknown_choices_are_refused(name: str, value: str, tiny_folder: TinyFolder) -> None:
    with pytest.raises(ValueError, match=value):
        Transformer(str(tiny_folder("bert")), **{name: value})  # type: ignore[arg-type]


def test_a_tokenizer_of_another_folder(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(tiny_folder("bert"), bare, ignore=shutil.ignore_patterns("tokenizer*"))
    module = Transformer(str(bare), tokenizer_name_or_path=str(tiny_folder("bert")))
    wanted = Transformer(str(tiny_folder("bert"))).preprocess(["a cat"])["input_ids"]
    assert torch.equal(module.preprocess(["a cat"])["input_ids"], wanted)


# --- saving and opening -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "roberta", "qwen3", "t5", "modernbert"])
@pytest.mark.parametrize("built", [False, True])
def test_saved_and_opened(family: str, built: bool, tiny_folder: TinyFolder, tmp_path: Path) -> None:
    module = Transformer(str(tiny_folder(family)), max_seq_length=20, do_lower_case=True).eval()
    if built:
        _ = module.auto_model, module.tokenizer
    inputs = ["The CAT sat", "x " * 60, ""]
    module.save(str(tmp_path))
    again = Transformer.load(str(tmp_path)).eval()
    assert (again.max_seq_length, again.do_lower_case) == (20, True)
    with torch.no_grad():
        wanted, found = (m(m.preprocess(inputs))["token_embeddings"] for m in (module, again))
    assert torch.allclose(found, wanted, rtol=0, atol=5e-6)


def test_saving_into_the_folder_it_came_from(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    path = tmp_path / "model"
    shutil.copytree(tiny_folder("bert"), path)
    module = Transformer(str(path), max_seq_length=9)
    module.save(str(path))
    assert Transformer.load(str(path)).max_seq_length == 9


@pytest.mark.parametrize("deleted", ["config.json", "model.safetensors"])
def test_a_missing_file_is_one_clear_error(deleted: str, tiny_folder: TinyFolder, tmp_path: Path) -> None:
    path = tmp_path / "model"
    shutil.copytree(tiny_folder("bert"), path)
    (path / deleted).unlink()
    with pytest.raises(ModelFileError, match=str(path)):
        Transformer(str(path))


def test_the_limit_of_the_settings_wins_over_the_saved_one(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    module = Transformer(str(tiny_folder("bert")), max_seq_length=20)
    module.save(str(tmp_path))
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 30}', encoding="utf-8")
    assert Transformer.load(str(tmp_path)).max_seq_length == 30
    assert Transformer.load(str(tmp_path), processor_kwargs={"model_max_length": 10}).max_seq_length == 10


def test_opening_warns_of_nothing(tiny_folder: TinyFolder) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Transformer(str(tiny_folder("bert"))).preprocess(["a cat"])


def test_the_old_class_for_masked_words_is_a_transformer_with_that_task(tmp_path: Path) -> None:
    import tiny_heads
    from sentence_transformers.sparse_encoder.modules import MLMTransformer

    module = MLMTransformer(str(tiny_heads.build_masked("bert", tmp_path)))
    assert module.transformer_task == "fill-mask"
    with torch.no_grad():
        logits = module(module.preprocess(["a text"]))["token_embeddings"]
    assert logits.shape == (1, 7, module.pretrained.config["vocab_size"])
