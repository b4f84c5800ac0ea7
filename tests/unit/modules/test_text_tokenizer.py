"""The tokenizer of a model: what its files say, what users change on the transformers tokenizer, and threads."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import texts
import torch
from tokenizers import AddedToken, Tokenizer

from sentence_transformers import SentenceTransformer
from sentence_transformers.errors import ModelFileError
from sentence_transformers.modules.text_tokenizer import Limits, TextTokenizer, limits_of
from sentence_transformers.modules.tokenizer_files import as_limit, check_present, read

TinyFolder = Callable[[str], Path]

INPUTS = [
    *texts.TINY_TEXTS, "Hello [MASK] <mask> <pad> </s>", "  two  spaces ", "ÀÉ ß ŒÆ İ", "don't we'll", "tab\tnl\n\n x",
    "<s>a</s>", "[SEP]", "e\u0301 \u200b \ufeff x", "x" * 120,
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, tiny_folder: TinyFolder) -> Callable[..., Path]:
    """``folder(family, **changes)``: a copy with another tokenizer_config.json; ``...`` removes a key."""

    def make(family: str, **changes: Any) -> Path:
        target = tmp_path / "model"
        shutil.copytree(tiny_folder(family), target)
        path = target / "tokenizer_config.json"
        config = {**json.loads(path.read_text("utf-8")), **changes}
        path.write_text(json.dumps({k: v for k, v in config.items() if v is not ...}), encoding="utf-8")
        return target

    return make


def opened(folder: Path, with_types: bool | None = True, **options: Any) -> TextTokenizer:
    given: dict[str, Any] = {"limit": None, "positions": None, "lower": False, "trust_remote_code": False, **options}
    settings = given.pop("settings", {})
    return TextTokenizer(folder, settings, with_types=with_types, **given)


def ids_of(text: TextTokenizer, inputs: Any) -> list[list[int]]:
    assert text.processor is not None
    table = text.processor(inputs)
    return [table.ids[a:b].tolist() for a, b in zip(table.starts[:-1], table.starts[1:], strict=True)]


def theirs(folder: Path, inputs: Any = INPUTS, **settings: Any) -> list[list[int]]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder), **settings)
    found: list[list[int]] = tokenizer(inputs, truncation=True)["input_ids"]
    return found


# --- files ------------------------------------------------------------------------------------------------------------

CLASSES = [
    ("bert", "BertTokenizer"), ("bert", "BertTokenizerFast"), ("bert", "DistilBertTokenizer"), ("bert", ...),
    ("bert", "PreTrainedTokenizerFast"), ("electra", "ElectraTokenizerFast"), ("electra", ...),
    ("distilbert", "DistilBertTokenizer"), ("distilbert", ...), ("mpnet", "MPNetTokenizer"), ("mpnet", ...),
    ("roberta", "RobertaTokenizer"), ("roberta", "RobertaTokenizerFast"), ("roberta", ...),
    ("xlm-roberta", "XLMRobertaTokenizer"), ("xlm-roberta", "XLMRobertaTokenizerFast"), ("xlm-roberta", ...),
    ("camembert", "CamembertTokenizer"), ("camembert", ...), ("modernbert", "PreTrainedTokenizerFast"),
    ("modernbert", ...), ("qwen3", "Qwen2Tokenizer"), ("qwen3", "Qwen2TokenizerFast"), ("qwen3", ...),
    ("llama", "LlamaTokenizer"), ("llama", ...), ("mistral", "LlamaTokenizer"), ("mistral", "PreTrainedTokenizerFast"),
]  # fmt: skip


@pytest.mark.parametrize(("family", "name"), CLASSES)
def test_any_tokenizer_class_gives_the_ids_of_transformers(family: str, name: Any, folder: Callable[..., Path]) -> None:
    """transformers 5 makes some tokenizers anew from their vocabulary, whatever tokenizer.json says."""
    path = folder(family, tokenizer_class=name, model_input_names=...)
    assert ids_of(opened(path, with_types=family in ("bert", "electra")), INPUTS) == theirs(path)


@pytest.mark.parametrize("family", ["bert", "distilbert", "mpnet"])
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("name", ["BertTokenizer", "PreTrainedTokenizerFast"])
def test_do_lower_case_of_the_settings(family: str, lower: bool, name: str, folder: Callable[..., Path]) -> None:
    path = folder(family, tokenizer_class=name, do_lower_case=lower)
    assert ids_of(opened(path), INPUTS) == theirs(path)


@pytest.mark.parametrize("settings", [{"strip_accents": False}, {"tokenize_chinese_chars": False}])
def test_other_settings_of_the_normaliser(settings: Any, folder: Callable[..., Path]) -> None:
    path = folder("bert", tokenizer_class="BertTokenizer", **settings)
    assert ids_of(opened(path), INPUTS) == theirs(path)


@pytest.mark.parametrize("prefix", [True, False])
def test_a_space_before_the_first_word(prefix: bool, folder: Callable[..., Path]) -> None:
    path = folder("roberta", tokenizer_class="RobertaTokenizer", add_prefix_space=prefix)
    assert ids_of(opened(path, with_types=False), INPUTS) == theirs(path)


@pytest.mark.parametrize(("begin", "end"), [(True, True), (False, False), (True, False)])
def test_templates_that_are_made_on_load(begin: bool, end: bool, folder: Callable[..., Path]) -> None:
    path = folder("llama", tokenizer_class="LlamaTokenizer", add_bos_token=begin, add_eos_token=end)
    assert ids_of(opened(path, with_types=False), INPUTS) == theirs(path)


def test_tokens_that_only_the_settings_know(folder: Callable[..., Path]) -> None:
    path = folder("bert")
    size = Tokenizer.from_file(str(path / "tokenizer.json")).get_vocab_size()
    added = {str(size): {"content": "zyzzyva", "lstrip": False, "rstrip": False, "normalized": False,
                         "single_word": False, "special": False}}  # fmt: skip
    config = json.loads((path / "tokenizer_config.json").read_text("utf-8"))
    (path / "tokenizer_config.json").write_text(json.dumps({**config, "added_tokens_decoder": added}), "utf-8")
    inputs = ["a zyzzyva sat", "zyzzyva"]
    assert ids_of(opened(path), inputs) == theirs(path, inputs)


@pytest.mark.parametrize(
    ("names", "typed"),
    [(["input_ids", "token_type_ids", "attention_mask"], True), (["input_ids", "attention_mask"], False), (..., False)],
)
def test_segments_are_given_where_the_tokenizer_gives_them(
    names: Any, typed: bool, folder: Callable[..., Path]
) -> None:
    """The last: a tokenizer class that does not give them unless told to."""
    path = folder("bert", model_input_names=names)
    processor = opened(path, with_types=True).processor
    assert processor is not None
    assert processor.with_types is typed
    assert ("token_type_ids" in SentenceTransformer(str(path), device="cpu").preprocess(["a"])) is typed


def test_segments_are_not_given_to_a_network_without_them(folder: Callable[..., Path]) -> None:
    processor = opened(folder("bert"), with_types=False).processor
    assert processor is not None
    assert not processor.with_types


def test_a_damaged_tokenizer_is_one_clear_error(folder: Callable[..., Path]) -> None:
    path = folder("bert")
    (path / "tokenizer.json").write_text('{"model": 5}', encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"tokenizer\.json is damaged"):
        opened(path)


def test_files_in_the_old_format_alone_are_read_by_transformers(folder: Callable[..., Path]) -> None:
    path = folder("bert", tokenizer_class="BertTokenizer")
    wanted = ids_of(opened(path), INPUTS)
    vocabulary = Tokenizer.from_file(str(path / "tokenizer.json")).get_vocab()
    lines = sorted(vocabulary, key=lambda token: vocabulary[token])
    (path / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (path / "tokenizer.json").unlink()
    assert read(path, {}, True) is None
    assert ids_of(opened(path), INPUTS) == wanted


@pytest.mark.parametrize(("value", "limit"), [(512, 512), (10**30, None), (1e30, None), (None, None), (64.0, 64)])
def test_as_limit(value: Any, limit: int | None) -> None:
    assert as_limit(value) == limit


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "positions", "limit"), [(64, 512, 64), (64, 20, 20), (..., 20, 20), (..., None, None), (10**30, None, None),
                                    (64, -1, 64)]
)  # fmt: skip
def test_the_smaller_limit_counts(own: Any, positions: Any, limit: Any, folder: Callable[..., Path]) -> None:
    assert opened(folder("bert", model_max_length=own), positions=positions).limit == limit


def test_a_limit_that_is_asked_for_counts_alone(folder: Callable[..., Path]) -> None:
    path = folder("bert")
    assert opened(path, limit=100, positions=20).limit == 100
    assert opened(path, settings={"model_max_length": 30}, positions=20).limit == 30


def test_a_limit_counts_for_the_transformers_tokenizer(folder: Callable[..., Path]) -> None:
    text = opened(folder("bert"), limit=10)
    assert text.transformers.model_max_length == 10
    text.limit = 7
    assert text.transformers.model_max_length == 7
    assert len(ids_of(text, ["x " * 50])[0]) == 7


def test_a_limit_set_before_the_transformers_tokenizer_is_built(folder: Callable[..., Path]) -> None:
    text = opened(folder("bert"))
    text.limit = 9
    assert text.transformers.model_max_length == 9
    assert text.limit == 9


def test_a_limit_set_through_the_tokenizer_is_followed(folder: Callable[..., Path]) -> None:
    model = SentenceTransformer(str(folder("bert")), device="cpu")
    model.tokenizer.model_max_length = 6
    assert model.max_seq_length == 6
    assert model.preprocess(["x " * 50])["input_ids"].shape == (1, 6)
    assert len(model.encode("x " * 50, output_value="token_embeddings", on_truncate="ignore")) == 6
    model.max_seq_length = 8
    assert model.tokenizer.model_max_length == 8
    assert model.preprocess(["x " * 50])["input_ids"].shape == (1, 8)


def test_no_limit(folder: Callable[..., Path]) -> None:
    text = opened(folder("llama"), with_types=False)
    text.limit = None
    assert text.limit is None
    assert len(ids_of(text, ["x " * 500])[0]) > 500


# --- what users change ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("special", [False, True])
def test_added_tokens_are_followed(special: bool, folder: Callable[..., Path]) -> None:
    text = opened(folder("bert"))
    before = ids_of(text, ["a zyzzyva sat"])
    text.transformers.add_tokens(["zyzzyva"], special_tokens=special)
    wanted = text.transformers(["a zyzzyva sat"])["input_ids"]
    assert ids_of(text, ["a zyzzyva sat"]) == wanted
    assert len(wanted[0]) == 5
    assert before != wanted


def test_added_special_tokens_are_followed(folder: Callable[..., Path]) -> None:
    text = opened(folder("bert"))
    text.transformers.add_special_tokens({"additional_special_tokens": [AddedToken("<q>", lstrip=True)]})
    assert ids_of(text, ["the <q> cat"]) == text.transformers(["the <q> cat"])["input_ids"]


def test_added_tokens_reach_encode(folder: Callable[..., Path]) -> None:
    model = SentenceTransformer(str(folder("bert")), device="cpu")
    assert len(model.encode("zyzzyva", output_value="token_embeddings")) > 3
    model.tokenizer.add_tokens(["zyzzyva"])
    model[0].auto_model.resize_token_embeddings(len(model.tokenizer), mean_resizing=False)
    assert len(model.encode("zyzzyva", output_value="token_embeddings")) == 3


@pytest.mark.parametrize("side", ["left", "right"])
def test_sides_set_through_the_tokenizer_are_followed(side: str, folder: Callable[..., Path]) -> None:
    text = opened(folder("bert"), limit=6)
    text.transformers.truncation_side = side
    text.transformers.padding_side = side
    assert text.processor is not None
    assert (text.processor.truncation_side, text.processor.padding_side) == (side, side)
    assert ids_of(text, INPUTS) == text.transformers(INPUTS, truncation=True)["input_ids"]


def test_another_padding_token_is_followed(folder: Callable[..., Path]) -> None:
    model = SentenceTransformer(str(folder("bert")), device="cpu")
    model.tokenizer.pad_token = "[UNK]"
    ids = model.preprocess(["a cat sat", "x"])["input_ids"]
    assert ids[1, -1] == model.tokenizer.pad_token_id


def test_using_the_transformers_tokenizer_changes_nothing_here(folder: Callable[..., Path]) -> None:
    text = opened(folder("bert"))
    before = ids_of(text, INPUTS)
    text.transformers(INPUTS, truncation=True, max_length=5, padding="max_length")
    assert ids_of(text, INPUTS) == before


def test_a_whole_other_tokenizer(folder: Callable[..., Path], tiny_folder: TinyFolder) -> None:
    from transformers import AutoTokenizer

    model = SentenceTransformer(str(folder("bert")), device="cpu")
    other = AutoTokenizer.from_pretrained(str(tiny_folder("electra")), model_max_length=9)
    model.tokenizer = other
    assert model.tokenizer is other
    assert model.max_seq_length == 9
    assert model.preprocess(["x " * 50])["input_ids"].shape == (1, 9)


def test_a_tokenizer_written_in_python_works(folder: Callable[..., Path]) -> None:
    from transformers import ByT5Tokenizer

    model = SentenceTransformer(str(folder("t5")), device="cpu")
    with torch.no_grad():
        model[0].auto_model.resize_token_embeddings(400, mean_resizing=False)
    model.tokenizer = ByT5Tokenizer(model_max_length=12)
    assert model[0].text.processor is None
    inputs = ["abc", "", "a long text that does not fit", "שלום"]
    rows = model.encode(inputs)
    assert rows.shape == (4, 32)
    tokens = model.encode(inputs, output_value="token_embeddings")
    assert [len(item) for item in tokens] == [4, 1, 12, 9]
    np.testing.assert_allclose(rows, np.stack([item.mean(0).numpy() for item in tokens]), rtol=0, atol=3e-6)
    with ThreadPoolExecutor(3) as pool:
        for again in pool.map(lambda _: model.encode(inputs), range(6)):
            np.testing.assert_allclose(again, rows, rtol=0, atol=3e-6)


def test_lower_casing_of_the_module(folder: Callable[..., Path]) -> None:
    path = folder("roberta")
    text = opened(path, with_types=False, lower=True)
    plain = opened(path, with_types=False)
    assert ids_of(text, ["The CAT"]) == ids_of(plain, ["the cat"])
    assert ids_of(plain, ["The CAT"]) != ids_of(plain, ["the cat"])
    text.transformers.add_tokens(["zyzzyva"])
    assert ids_of(text, ["The CAT"]) == ids_of(plain, ["the cat"])


# --- saving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("built", [False, True])
def test_a_saved_tokenizer_is_the_same(built: bool, folder: Callable[..., Path], tmp_path: Path) -> None:
    text = opened(folder("bert"), limit=11, settings={"padding_side": "left"})
    if built:
        text.transformers.add_tokens(["zyzzyva"])
    saved = tmp_path / "saved"
    saved.mkdir()
    text.save(saved)
    again = opened(saved)
    assert again.limit == 11
    assert again.processor is not None
    assert again.processor.padding_side == "left"
    inputs = [*INPUTS, "a zyzzyva"]
    assert ids_of(again, inputs) == ids_of(text, inputs) == theirs(saved, inputs)


def test_saving_into_the_same_folder(folder: Callable[..., Path]) -> None:
    path = folder("bert")
    text = opened(path)
    text.limit = 12
    text.save(path)
    assert opened(path).limit == 12


@pytest.mark.parametrize("fate", ["gone", "another"])
def test_a_tokenizer_outlives_its_folder(
    fate: str, folder: Callable[..., Path], tmp_path: Path, tiny_folder: TinyFolder
) -> None:
    path = folder("bert")
    text = opened(path)
    before = ids_of(text, INPUTS)
    shutil.rmtree(path)
    if fate == "another":
        shutil.copytree(tiny_folder("roberta"), path)
    saved = tmp_path / "saved"
    saved.mkdir()
    text.save(saved)
    assert ids_of(opened(saved), INPUTS) == before == theirs(saved)
    assert text.transformers(INPUTS, truncation=True)["input_ids"] == before


# --- threads ----------------------------------------------------------------------------------------------------------


def test_threads_that_tokenise_while_another_builds_and_changes_the_tokenizer(folder: Callable[..., Path]) -> None:
    text = opened(folder("bert"))
    wanted = {tuple(map(tuple, ids_of(text, INPUTS)))}
    problems: list[Any] = []
    stop = threading.Event()

    def tokenise() -> None:
        while not stop.is_set():
            processor = text.processor
            if processor is None:
                problems.append("no processor")
                return
            table = processor(INPUTS)
            rows = tuple(
                tuple(table.ids[a:b].tolist()) for a, b in zip(table.starts[:-1], table.starts[1:], strict=True)
            )
            if rows not in wanted:
                problems.append(rows)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=tokenise) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        for i in range(20):
            text.transformers.add_tokens([f"zyzzyva{i}"])  # in none of the inputs: their ids stay
            _ = text.processor
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        for thread in threads:
            thread.join()
    assert problems == []


def test_many_threads_ask_for_the_transformers_tokenizer_at_once(folder: Callable[..., Path]) -> None:
    text = opened(folder("bert"))
    before = text.processor
    start = threading.Barrier(8)

    def ask(_: int) -> tuple[int, int]:
        start.wait()
        return id(text.transformers), id(text.processor)

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(ask, range(8)))
    assert found == {(id(text.transformers), id(before))}


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ([{}], None),
        ([{"text": {"max_length": 7}}], 7),
        ([{"common": {"max_length": 7}}, {"text": {"max_length": 5}}], 5),
        ([{"common": {"max_length": 5}, "text": {"max_length": 7}}], 5),
        ([{"text": {"max_length": 7}}, {"text": {"max_length": None}}], None),
        ([{"text": {"max_length": 7, "padding": "max_length"}}, {}], 7),
        ([{"text": {"truncation": False}}], 10**9),
        ([{"text": {"truncation": None}}], 10**9),
        ([{"text": {"truncation": "do_not_truncate"}}], 10**9),
        ([{"text": {"truncation": False}}, {"text": {"max_length": 5}}], 10**9),
        ([{"text": {"truncation": False, "max_length": 5}}, {"text": {"truncation": True}}], 5),
    ],
)
def test_the_limit_of_processing_settings(settings: list[dict[str, Any]], limit: int | None) -> None:
    assert limits_of(*settings) == Limits(limit, "longest_first")


@pytest.mark.parametrize(
    ("settings", "truncation"),
    [
        ([{"text": {"truncation": True}}], "longest_first"),
        ([{"text": {"truncation": "longest_first"}}], "longest_first"),
        ([{"text": {"truncation": "only_second"}}], "only_second"),
        ([{"common": {"truncation": "only_first"}, "text": {"truncation": "only_second"}}], "only_first"),
        ([{"common": {"truncation": "only_first"}}, {"text": {"truncation": "only_second"}}], "only_second"),
        ([{"text": {"truncation": "only_first"}}, {"text": {"max_length": 7}}], "only_first"),
    ],
)
def test_the_truncation_of_processing_settings(settings: list[dict[str, Any]], truncation: str) -> None:
    assert limits_of(*settings).truncation == truncation


def test_a_truncation_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match=r"truncation must be one of .* got 'only_secnd'.*Did you mean 'only_second'"):
        limits_of({"text": {"truncation": "only_secnd"}})


def test_settings_without_effect_are_named(caplog: pytest.LogCaptureFixture) -> None:
    assert limits_of({"text": {"stride": 3}, "image": {"max_pixels": 9}}).max_length is None
    assert "text.stride" in caplog.text and "image.max_pixels" in caplog.text


def test_a_folder_without_a_tokenizer_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"No tokenizer in .*: expected tokenizer.json"):
        check_present(tmp_path)
    (tmp_path / "vocab.txt").touch()
    check_present(tmp_path)
