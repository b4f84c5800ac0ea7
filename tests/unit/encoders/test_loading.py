"""Every layout that was ever saved is opened, with the settings that are in it."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.torch import load_file

from sentence_transformers import SentenceTransformer
from tests.unit.encoders.folders import (
    NORMALIZE,
    OLD_MEAN,
    POOLING,
    TEXTS,
    TRANSFORMER,
    WIDTH,
    WINDOW,
    entries,
    read_json,
    write_json,
)

Make = Callable[..., Path]
NEW = "sentence_transformers.sentence_transformer.modules."
BASE = "sentence_transformers.base.modules."


def opened(folder: Path, **arguments: Any) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu", **arguments)


def token_rows(bert: SentenceTransformer) -> list[np.ndarray[Any, Any]]:
    return [row.numpy() for row in bert.encode(TEXTS, output_value="token_embeddings")]


# --- type strings


@pytest.mark.parametrize(
    ("transformer", "pooling"),
    [
        (TRANSFORMER, POOLING),
        (f"{BASE}transformer.Transformer", f"{NEW}pooling.Pooling"),
        (f"{TRANSFORMER}.Transformer", f"{POOLING}.Pooling"),
    ],
    ids=["until 5.3", "since 5.4", "doubled"],
)
def test_every_spelling_of_a_class(
    transformer: str, pooling: str, make_folder: Make, bert: SentenceTransformer
) -> None:
    model = opened(make_folder(modules=entries(transformer, pooling)))
    assert_array_equal(model.encode(TEXTS), bert.encode(TEXTS))


@pytest.mark.parametrize(
    "normalize", [NORMALIZE, f"{NEW}normalize.Normalize", f"{BASE}normalize.Normalize"], ids=["5.3", "5.4", "6"]
)
def test_normalize_needs_neither_folder_nor_config(
    normalize: str, make_folder: Make, bert: SentenceTransformer
) -> None:
    folder = make_folder(modules=entries(TRANSFORMER, POOLING, normalize))
    assert not (folder / "2_Normalize").exists()
    assert_allclose(opened(folder).encode(TEXTS), bert.encode(TEXTS, normalize_embeddings=True), rtol=0, atol=1e-6)


def test_modules_have_the_names_of_the_file(make_folder: Make) -> None:
    named = [{**entry, "name": name} for entry, name in zip(entries(TRANSFORMER, POOLING), "ab", strict=True)]
    assert [name for name, _ in opened(make_folder(modules=named)).named_children()] == ["a", "b"]


def test_modules_without_a_name_are_numbered(make_folder: Make) -> None:
    bare = [{key: value for key, value in entry.items() if key != "name"} for entry in entries(TRANSFORMER, POOLING)]
    assert [name for name, _ in opened(make_folder(modules=bare)).named_children()] == ["0", "1"]


def test_a_module_without_a_path_is_in_the_root(make_folder: Make, bert: SentenceTransformer) -> None:
    first, second = entries(TRANSFORMER, POOLING)
    del first["path"]
    assert_array_equal(opened(make_folder(modules=[first, second])).encode(TEXTS), bert.encode(TEXTS))


def test_saved_names_of_arguments_are_allowed_in_encode(make_folder: Make, bert: SentenceTransformer) -> None:
    model = opened(make_folder(modules=[{**entry, "kwargs": ["foo"]} for entry in entries(TRANSFORMER, POOLING)]))
    assert (model.module_kwargs, model.get_model_kwargs()) == ({"0": ["foo"], "1": ["foo"]}, ["foo"])
    assert_array_equal(model.encode(TEXTS, foo=1), bert.encode(TEXTS))


def test_a_path_written_on_windows(make_folder: Make, bert: SentenceTransformer) -> None:
    first, second = entries(TRANSFORMER, POOLING)
    folder = make_folder(modules=[first, {**second, "path": "parts\\1_Pooling"}])
    (folder / "parts").mkdir()
    (folder / "1_Pooling").rename(folder / "parts" / "1_Pooling")
    assert_array_equal(opened(folder).encode(TEXTS), bert.encode(TEXTS))


# --- Pooling


@pytest.mark.parametrize(
    ("flag", "formula"),
    [
        ("cls_token", lambda row: row[0]),
        ("max_tokens", lambda row: row.max(0)),
        ("mean_tokens", lambda row: row.mean(0)),
        ("mean_sqrt_len_tokens", lambda row: row.sum(0) / len(row) ** 0.5),
        ("weightedmean_tokens", lambda row: np.average(row, axis=0, weights=np.arange(1, len(row) + 1))),
        ("lasttoken", lambda row: row[-1]),
    ],
)
def test_every_old_flag_of_pooling(
    flag: str, formula: Callable[[Any], Any], make_folder: Make, bert: SentenceTransformer
) -> None:
    pooling = {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": False, f"pooling_mode_{flag}": True}
    vectors = opened(make_folder(pooling=pooling)).encode(TEXTS)
    assert_allclose(vectors, [formula(row) for row in token_rows(bert)], rtol=0, atol=5e-6)


@pytest.mark.parametrize(
    ("pooling", "modes"),
    [
        ({"word_embedding_dimension": WIDTH}, "mean"),
        ({"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": False}, "mean"),
        ({**OLD_MEAN, "pooling_mode_cls_token": True}, ("cls", "mean")),
        ({"pooling_mode_lasttoken": True, "pooling_mode_max_tokens": True, **{"word_embedding_dimension": WIDTH}},
         ("max", "lasttoken")),
        ({"embedding_dimension": WIDTH, "pooling_mode": "cls"}, "cls"),
        ({"embedding_dimension": WIDTH, "pooling_mode": ["max", "cls"]}, ("max", "cls")),
    ],
)  # fmt: skip
def test_modes_of_a_pooling_config(pooling: dict[str, Any], modes: Any, make_folder: Make) -> None:
    model: Any = opened(make_folder(pooling=pooling))
    assert model[1].pooling_mode == modes
    assert model.encode(TEXTS).shape == (3, WIDTH * (1 if isinstance(modes, str) else len(modes)))


def test_include_prompt_is_read(make_folder: Make) -> None:
    model: Any = opened(make_folder(pooling={**OLD_MEAN, "include_prompt": False}))
    assert model[1].include_prompt is False


# --- Transformer


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"])
def test_every_name_of_the_transformer_config(name: str, make_folder: Make) -> None:
    folder = make_folder()
    write_json(folder / f"sentence_{name}_config.json", {"max_seq_length": 6})
    assert opened(folder).max_seq_length == 6


def test_the_first_name_of_the_transformer_config_wins(make_folder: Make) -> None:
    folder = make_folder(transformer={"max_seq_length": 8})
    write_json(folder / "sentence_roberta_config.json", {"max_seq_length": 6})
    assert opened(folder).max_seq_length == 8


@pytest.mark.parametrize(("saved", "limit"), [(7, 7), (None, WINDOW), (700, 700)])
def test_the_saved_limit(saved: int | None, limit: int, make_folder: Make) -> None:
    assert opened(make_folder(transformer={"max_seq_length": saved, "do_lower_case": False})).max_seq_length == limit


def test_no_transformer_config_is_fine(make_folder: Make) -> None:
    assert opened(make_folder()).max_seq_length == WINDOW


def test_the_given_limit_wins_over_the_saved_one(make_folder: Make) -> None:
    folder = make_folder(transformer={"max_seq_length": 7})
    assert opened(folder, processor_kwargs={"model_max_length": 9}).max_seq_length == 9


def test_do_lower_case_is_read(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder("roberta"), tmp_path / "model"))  # its tokenizer tells cases apart
    write_json(folder / "modules.json", entries(TRANSFORMER, POOLING))
    write_json(folder / "1_Pooling" / "config.json", OLD_MEAN)
    plain = opened(folder)
    assert np.abs(plain.encode("THE CAT") - plain.encode("the cat")).max() > 0.01
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": WINDOW, "do_lower_case": True})
    assert_array_equal(opened(folder).encode("THE CAT"), plain.encode("the cat"))


def test_old_names_of_settings_are_read(make_folder: Make) -> None:
    saved = {
        "model_args": {"torch_dtype": "float16", "trust_remote_code": True},
        "tokenizer_args": {"model_max_length": 9},
        "config_args": {"num_hidden_layers": 2},
    }
    model: Any = opened(make_folder(transformer=saved))
    assert (model.dtype, model.max_seq_length) == (torch.float16, 9)
    assert model[0].auto_model.config.num_hidden_layers == 2


@pytest.mark.parametrize("name", ["args", "kwargs"])
@pytest.mark.parametrize("part", ["model", "tokenizer", "processor", "config"])
def test_saved_settings_give_no_trust(part: str, name: str, make_folder: Make) -> None:
    """A folder must not be able to trust itself, in any of the settings that it may bring."""
    model: Any = opened(make_folder(transformer={f"{part}_{name}": {"trust_remote_code": True}}))
    assert (model[0].pretrained.trust_remote_code, model[0].text.trust_remote_code) == (False, False)


def test_a_saved_limit_of_processing(make_folder: Make) -> None:
    model = opened(make_folder(transformer={"processing_kwargs": {"text": {"max_length": 5}}}))
    assert len(model.encode(TEXTS[1], output_value="token_embeddings", on_truncate="ignore")) == 5


def test_unknown_keys_of_the_transformer_config_are_left_alone(make_folder: Make) -> None:
    assert opened(make_folder(transformer={"max_seq_length": 9, "from_the_future": 1})).max_seq_length == 9


def test_the_transformer_may_have_a_folder_of_its_own(make_folder: Make, bert: SentenceTransformer) -> None:
    folder = make_folder(modules=entries(TRANSFORMER, POOLING, first="0_Transformer"))
    (folder / "0_Transformer").mkdir()
    for path in [*folder.glob("*.json"), *folder.glob("*.safetensors")]:
        if path.name != "modules.json":
            path.rename(folder / "0_Transformer" / path.name)
    write_json(folder / "0_Transformer" / "sentence_bert_config.json", {"max_seq_length": 50})
    model = opened(folder)
    assert model.max_seq_length == 50
    assert_array_equal(model.encode(TEXTS), bert.encode(TEXTS))


def test_weights_may_be_a_pickle_of_tensors(make_folder: Make, bert: SentenceTransformer) -> None:
    folder = make_folder()
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert_array_equal(opened(folder).encode(TEXTS), bert.encode(TEXTS))


def test_a_bare_transformer_with_pickled_weights(bert_folder: Path, tmp_path: Path, bert: SentenceTransformer) -> None:
    folder = Path(shutil.copytree(bert_folder, tmp_path / "bare"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert_array_equal(opened(folder).encode(TEXTS), bert.encode(TEXTS))


def test_a_bare_transformer_reads_nothing_of_another_familys_settings(
    bert_folder: Path, tmp_path: Path, bert: SentenceTransformer
) -> None:
    """Without ``modules.json`` the other files of a saved model do not count, as in the reference."""
    folder = Path(shutil.copytree(bert_folder, tmp_path / "bare"))
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 5, "transformer_task": "fill-mask"})
    write_json(
        folder / "config_sentence_transformers.json", {"prompts": {"query": "q: "}, "default_prompt_name": "query"}
    )
    model = opened(folder)
    assert (model.max_seq_length, model.prompts, model.default_prompt_name) == (
        WINDOW,
        {"query": "", "document": ""},
        None,
    )


# --- Dense


def dense_vectors(folder: Path, bert: SentenceTransformer) -> np.ndarray[Any, Any]:
    weights = {
        name: value.double().numpy() for name, value in load_file(folder / "2_Dense" / "model.safetensors").items()
    }
    return np.tanh(bert.encode(TEXTS).astype(np.float64) @ weights["linear.weight"].T + weights["linear.bias"])


def test_an_old_dense(dense_folder: Path, bert: SentenceTransformer) -> None:
    assert_allclose(opened(dense_folder).encode(TEXTS), dense_vectors(dense_folder, bert), rtol=0, atol=2e-6)


def test_a_dense_with_pickled_weights(dense_folder: Path, bert: SentenceTransformer) -> None:
    expected = dense_vectors(dense_folder, bert)
    weights = dense_folder / "2_Dense" / "model.safetensors"
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    assert_allclose(opened(dense_folder).encode(TEXTS), expected, rtol=0, atol=2e-6)


def test_an_activation_that_is_not_of_torch_is_not_run(
    dense_folder: Path, bert: SentenceTransformer, caplog: pytest.LogCaptureFixture
) -> None:
    config = read_json(dense_folder / "2_Dense" / "config.json")
    write_json(dense_folder / "2_Dense" / "config.json", {**config, "activation_function": "os.system"})
    vectors = opened(dense_folder).encode(TEXTS)
    assert_allclose(vectors, dense_vectors(dense_folder, bert), rtol=0, atol=2e-6)
    assert "'os.system'" in caplog.text
    assert "trust_remote_code=True" in caplog.text


# --- config_sentence_transformers.json


def test_saved_similarity_and_width_are_read(make_folder: Make) -> None:
    model = opened(make_folder(config={"similarity_fn_name": "dot", "truncate_dim": 8}))
    assert (model.similarity_fn_name, model.truncate_dim, model.encode(TEXTS).shape) == ("dot", 8, (3, 8))


def test_given_similarity_and_width_win_over_saved_ones(make_folder: Make) -> None:
    folder = make_folder(config={"similarity_fn_name": "dot", "truncate_dim": 8})
    model = opened(folder, similarity_fn_name="manhattan", truncate_dim=4)
    assert (model.similarity_fn_name, model.truncate_dim) == ("manhattan", 4)


@pytest.mark.parametrize("name", ["maxsim", "from-the-future", None])
def test_a_saved_similarity_that_is_not_ours_is_left_alone(name: str | None, make_folder: Make) -> None:
    assert opened(make_folder(config={"similarity_fn_name": name})).similarity_fn_name == "cosine"


@pytest.mark.parametrize(
    "config",
    [
        {"__version__": {"sentence_transformers": "2.0.0", "transformers": "4.6.1", "pytorch": "1.8.1"}},
        {"__version__": "5.0.0"},
        {"from_the_future": 1},
        {"prompts": None, "default_prompt_name": None, "truncate_dim": None, "__version__": None},
        {},
    ],
)
def test_configs_of_all_versions_load_without_a_warning(
    config: dict[str, Any], make_folder: Make, caplog: pytest.LogCaptureFixture
) -> None:
    assert opened(make_folder(config=config)).prompts == {"query": "", "document": ""}
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    ("version", "warned"), [("99.0.0", True), ("99.0.0.dev0", True), ("6.2.0", False), ("0", False)]
)
def test_a_newer_version_is_a_warning(
    version: str, warned: bool, make_folder: Make, caplog: pytest.LogCaptureFixture
) -> None:
    opened(make_folder(config={"__version__": {"sentence_transformers": version}}))
    found = (
        f"This model was created with Sentence Transformers version {version}, but you're using version" in caplog.text
    )
    assert found is warned


def test_a_saved_default_prompt_that_is_not_there_is_refused(make_folder: Make) -> None:
    with pytest.raises(ValueError, match="Default prompt name 'x' not found in the configured prompts dictionary"):
        opened(make_folder(config={"prompts": {"query": "q: "}, "default_prompt_name": "x"}))


def test_unmet_requirements_are_an_import_error(make_folder: Make) -> None:
    requirements = {"torch": ">=1.0", "no_such_package": {"specifier": ">=1", "reason": "it is nice"}}
    with pytest.raises(ImportError, match=r"no_such_package>=1 .*it is nice.*pip install"):
        opened(make_folder(config={"requirements": requirements}))


@pytest.mark.parametrize("kind", ["SparseEncoder", "CrossEncoder"])
def test_a_model_of_another_type_gets_the_default_modules(
    kind: str, make_folder: Make, bert: SentenceTransformer, caplog: pytest.LogCaptureFixture
) -> None:
    config = {
        "model_type": kind,
        "prompts": {"query": "q: "},
        "default_prompt_name": "query",
        "similarity_fn_name": "dot",
    }
    saved = {"transformer_task": "fill-mask", "module_output_name": "token_embeddings", "max_seq_length": 6}
    folder = make_folder(config=config, transformer=saved, pooling={**OLD_MEAN, "pooling_mode_cls_token": True})
    model = opened(folder)
    assert f"Converting a {kind} model to SentenceTransformer" in caplog.text
    assert (model.prompts, model.default_prompt_name, model.similarity_fn_name) == (
        {"query": "", "document": ""},
        None,
        "cosine",
    )
    assert_array_equal(model.encode(TEXTS), bert.encode(TEXTS))


def test_json_with_a_byte_order_mark_is_read(make_folder: Make, bert: SentenceTransformer) -> None:
    folder = make_folder()
    text = json.dumps(read_json(folder / "modules.json"))
    (folder / "modules.json").write_text(text, encoding="utf-8-sig")
    assert_array_equal(opened(folder).encode(TEXTS), bert.encode(TEXTS))
