"""A folder of one family opened by another: which modules, prompts, settings and words of its card stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_heads as heads
import torch
from torch import nn

from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.errors import ModelFileError
from sentence_transformers.modules.legacy import MLMTransformer
from sentence_transformers.modules.linear import Dense
from sentence_transformers.modules.static import StaticEmbedding
from tests.unit.encoders.folders import read_json, write_json

CARD = "---\ntags: [theirs]\n---\n\n# Somebody's words\n"
KINDS: tuple[Any, ...] = (SentenceTransformer, CrossEncoder, SparseEncoder, MultiVectorEncoder)


def _sentence(folder: Path) -> Path:
    """With prompts, a default prompt and a similarity that its class does not have by default."""
    heads.build_sentence_dense(folder)
    path = folder / "config_sentence_transformers.json"
    write_json(path, read_json(path) | {"default_prompt_name": "query", "similarity_fn_name": "euclidean"})
    return folder


BUILT: dict[str, tuple[Any, Callable[[Path], Path]]] = {
    "SentenceTransformer": (SentenceTransformer, _sentence),
    "CrossEncoder": (CrossEncoder, lambda folder: heads.build_activation(folder, "config_sentence_transformers")),
    "SparseEncoder": (SparseEncoder, lambda folder: heads.build_splade(folder, "max", "relu")),
    "MultiVectorEncoder": (MultiVectorEncoder, lambda folder: heads.build_late("bert", folder)),
    "ColBERT": (MultiVectorEncoder, heads.build_pylate),
}
"""Saved type -> the class whose it is, what writes such a folder."""


def opened(kind: Any, folder: Path, **settings: Any) -> Any:
    return kind(str(folder), device="cpu", **settings)


def names(model: Any) -> list[str]:
    return [type(part).__name__ for part in model]


def pairs() -> list[tuple[str, Any]]:
    """Every saved type with every class that is not its own."""
    return [(saved, kind) for saved, (own, _) in BUILT.items() for kind in KINDS if kind is not own]


@pytest.mark.parametrize(("saved", "kind"), pairs())
def test_opening_the_folder_of_another_family_is_told(
    saved: str, kind: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened(kind, BUILT[saved][1](tmp_path))
    assert f"Converting a {saved} model to {kind.model_type}." in caplog.text


@pytest.mark.parametrize("saved", [name for name in BUILT if name != "ColBERT"])
def test_opening_the_own_folder_is_not(saved: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(BUILT[saved][0], BUILT[saved][1](tmp_path))
    assert "Converting" not in caplog.text


UNDERSTOOD = {SentenceTransformer: set(), CrossEncoder: set(), SparseEncoder: {"SentenceTransformer"}}
UNDERSTOOD[MultiVectorEncoder] = {"SentenceTransformer", "ColBERT"}


@pytest.mark.parametrize(("saved", "kind"), [pair for pair in pairs() if pair[0] not in UNDERSTOOD[pair[1]]])
def test_a_family_that_is_not_understood_lends_its_transformer_alone(saved: str, kind: Any, tmp_path: Path) -> None:
    bare = opened(kind, tiny.build("bert", tmp_path / "bare"))
    found = opened(kind, BUILT[saved][1](tmp_path / "saved"))
    # a masked model gets SPLADE, whatever was behind it
    expected = ["Transformer", "SpladePooling"] if (saved, kind) == ("SparseEncoder", SparseEncoder) else names(bare)
    assert names(found) == expected
    assert (found.prompts, found.default_prompt_name) == (bare.prompts, None)
    assert getattr(found, "similarity_fn_name", None) == getattr(bare, "similarity_fn_name", None)


# --- cards


@pytest.mark.parametrize(("saved", "kind"), pairs())
def test_the_card_of_another_family_is_dropped(saved: str, kind: Any, tmp_path: Path) -> None:
    folder = BUILT[saved][1](tmp_path / "saved")
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    opened(kind, folder).save(str(tmp_path / "again"))
    assert f'= {kind.__name__}("' in (tmp_path / "again" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_the_card_of_a_bare_transformer_is_dropped(kind: Any, tmp_path: Path) -> None:
    folder = tiny.build("bert", tmp_path / "bare")
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    opened(kind, folder).save(str(tmp_path / "again"))
    assert f'= {kind.__name__}("' in (tmp_path / "again" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("saved", [name for name in BUILT if name != "ColBERT"])
def test_the_card_of_the_own_family_is_kept(saved: str, tmp_path: Path) -> None:
    kind, build = BUILT[saved]
    folder = build(tmp_path / "saved")
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    opened(kind, folder).save(str(tmp_path / "again"))
    assert (tmp_path / "again" / "README.md").read_text(encoding="utf-8") == CARD


# --- dense -> sparse


def test_a_dense_model_gets_an_autoencoder_behind_its_modules(tmp_path: Path) -> None:
    folder = _sentence(tmp_path)
    dense, found = opened(SentenceTransformer, folder), opened(SparseEncoder, folder)
    assert names(found) == [*names(dense), "SparseAutoEncoder"]
    last = found[4]
    assert (last.input_dim, last.hidden_dim, last.k, last.k_aux) == (16, 64, 4, 8)
    assert (found.max_active_dims, found.get_embedding_dimension()) == (4, 64)
    embeddings = dense.encode(["the cat", "a dog"], convert_to_tensor=True, prompt="")
    with torch.inference_mode():
        expected = last({"sentence_embedding": embeddings})["sentence_embedding"]
    torch.testing.assert_close(found.encode(["the cat", "a dog"], prompt="").to_dense(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("kind", "similarity"), [(SparseEncoder, "euclidean"), (MultiVectorEncoder, "maxsim")])
def test_a_dense_model_keeps_its_prompts(kind: Any, similarity: str, tmp_path: Path) -> None:
    found = opened(kind, _sentence(tmp_path))
    assert found.prompts == {"query": "ask: ", "document": ""}
    assert (found.default_prompt_name, found.similarity_fn_name) == ("query", similarity)


def test_prompts_of_the_caller_win_over_those_of_the_dense_model(tmp_path: Path) -> None:
    found = opened(SparseEncoder, _sentence(tmp_path), prompts={"query": "mine: "}, similarity_fn_name="dot")
    assert (found.prompts["query"], found.similarity_fn_name) == ("mine: ", "dot")


def test_every_module_stays_whatever_its_name(tmp_path: Path) -> None:
    """Modules are named by ``modules.json``, not always from 0 on."""
    folder = tiny.build_with_pooling("bert", tmp_path, "mean")
    entries = read_json(folder / "modules.json")
    for entry in entries:
        entry["name"] = str(entry["idx"] + 1)
    write_json(folder / "modules.json", entries)
    found = opened(SparseEncoder, folder)
    assert names(found) == ["Transformer", "Pooling", "SparseAutoEncoder"]
    assert found.encode("the cat").values().numel() == 8


def test_a_dense_model_without_a_transformer_becomes_sparse(tmp_path: Path) -> None:
    bert = opened(SentenceTransformer, tiny.build("bert", tmp_path / "bert"))
    modules = [StaticEmbedding(bert.tokenizer, embedding_dim=8)]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "static"))
    found = opened(SparseEncoder, tmp_path / "static")
    assert names(found) == ["StaticEmbedding", "SparseAutoEncoder"]
    assert found.encode(["the cat", "a dog"]).shape == (2, 32)


class Mute(nn.Module):
    """Somebody's own part, which does not say how wide its output is."""

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return features


def test_a_dense_model_of_unknown_width_cannot_be_sparse(tmp_path: Path) -> None:
    model = SparseEncoder(str(heads.build_splade(tmp_path, "max", "relu")), device="cpu")
    with pytest.raises(ValueError, match="does not say how wide its embeddings are"):
        model.convert("SentenceTransformer", type(model._modules)({"0": Mute()}), {})  # type: ignore[arg-type]


def test_an_autoencoder_fits_the_narrowest_model(tmp_path: Path) -> None:
    bert = opened(SentenceTransformer, tiny.build("bert", tmp_path / "bert"))
    SentenceTransformer(modules=[*bert, Dense(32, 2)], device="cpu").save(str(tmp_path / "narrow"))
    last = opened(SparseEncoder, tmp_path / "narrow")[3]
    assert (last.input_dim, last.hidden_dim, last.k, last.k_aux) == (2, 8, 1, 1)


def test_a_bare_transformer_gets_an_autoencoder_on_the_mean(tmp_path: Path) -> None:
    found = opened(SparseEncoder, tiny.build("bert", tmp_path))
    assert names(found) == ["Transformer", "Pooling", "SparseAutoEncoder"]
    assert (found[1].pooling_mode, found[2].hidden_dim, found[2].k_aux) == ("mean", 128, 512)


def test_what_was_converted_is_saved_as_what_it_became(tmp_path: Path) -> None:
    for kind in (SparseEncoder, MultiVectorEncoder):
        target = tmp_path / kind.__name__
        found = opened(kind, _sentence(tmp_path / f"from-{kind.__name__}"))
        found.save(str(target))
        assert read_json(target / "config_sentence_transformers.json")["model_type"] == kind.__name__
        again = opened(kind, target)
        for ours, theirs in zip(found.encode(["the cat", "sea"]), again.encode(["the cat", "sea"]), strict=True):
            assert torch.equal(ours.to_dense(), theirs.to_dense())


def test_a_model_of_routes_lends_no_transformer_and_says_so(tmp_path: Path) -> None:
    folder = heads.build_inference_free(tmp_path)
    with pytest.raises(ModelFileError, match=r"config\.json"):
        opened(MultiVectorEncoder, folder)


# --- masked models as version 5.0 saved them


@pytest.fixture
def old_splade(tmp_path: Path) -> Path:
    """The layout of the SPLADE models on the Hub: a class that is gone, and no task in its config."""
    folder = heads.build_masked("bert", tmp_path / "old")
    prefix = "sentence_transformers.sparse_encoder.models"
    settings = {"pooling_strategy": "max", "activation_function": "relu", "word_embedding_dimension": None}
    heads.write_model(
        folder, "SparseEncoder", {"max_seq_length": 40, "do_lower_case": False},
        [(f"{prefix}.SpladePooling", settings, {})], transformer=f"{prefix}.MLMTransformer",
    )  # fmt: skip
    return folder


def test_an_old_masked_model_gives_the_weights_of_a_new_one(old_splade: Path, tmp_path: Path) -> None:
    old, new = opened(SparseEncoder, old_splade), opened(SparseEncoder, heads.build_masked("bert", tmp_path / "new"))
    assert isinstance(old[0], MLMTransformer)
    assert (old[0].transformer_task, old.max_seq_length) == ("fill-mask", 40)
    assert torch.equal(old.encode(["the cat", "sea"]).to_dense(), new.encode(["the cat", "sea"]).to_dense())


def test_an_old_masked_model_is_saved_so_that_its_logits_are_read(old_splade: Path, tmp_path: Path) -> None:
    """What the reference looks up in the output of the masked model; it has no "last_hidden_state"."""
    opened(SparseEncoder, old_splade).save(str(tmp_path / "again"))
    saved = read_json(tmp_path / "again" / "sentence_bert_config.json")
    assert saved["modality_config"] == {"text": {"method": "forward", "method_output_name": "logits"}}
    assert saved["transformer_task"] == "fill-mask"
    listed = json.loads((tmp_path / "again" / "modules.json").read_text("utf-8"))
    assert [entry["type"].rpartition(".")[2] for entry in listed] == ["MLMTransformer", "SpladePooling"]
    again = opened(SparseEncoder, tmp_path / "again")
    assert torch.equal(
        again.encode("the cat").to_dense(), opened(SparseEncoder, old_splade).encode("the cat").to_dense()
    )
