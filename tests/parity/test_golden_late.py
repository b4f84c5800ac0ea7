"""MultiVectorEncoder against the numbers that ``record_encoders.py`` took from the reference implementation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import encoder_facts as facts
import pytest
import tiny_heads as heads
import torch
from comparing import GOLDEN, assert_close, assert_fact, assert_vectors, rebuilt
from sentence_transformers.multi_vector_encoder.modules import (
    HierarchicalTokenPooling,
    LambdaTokenPooling,
    MultiVectorMask,
)
from sentence_transformers.sentence_transformer.modules import Transformer

from sentence_transformers import MultiVectorEncoder

REAL: dict[str, Any] = GOLDEN["multi_vector"]
FAMILIES = list(GOLDEN["late"])


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> _Late:
    return _Late(tmp_path_factory.mktemp("late"))


class _Late(dict[str, MultiVectorEncoder]):
    """Family -> model, filled by the tests as they need them."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, family: str) -> MultiVectorEncoder:
        recorded = GOLDEN["late"][family]["fingerprint"]
        path = rebuilt(lambda folder: heads.build_late(family, folder), self.folder / family, recorded)
        self[family] = MultiVectorEncoder(str(path), device="cpu")
        return self[family]


def assert_both(model: MultiVectorEncoder, golden: dict[str, Any]) -> None:
    """Prompts, queries, documents, and their MaxSim."""
    assert model.prompts == golden["prompts"]
    queries, documents = model.encode_query(facts.TEXTS), model.encode_document(facts.TEXTS)
    assert_vectors(queries, golden["query"])
    assert_vectors(documents, golden["document"])
    assert_close(model.similarity(queries, documents), golden["maxsim"])


@pytest.mark.parametrize("family", FAMILIES)
def test_family_has_the_same_queries(family: str, late: _Late) -> None:
    assert_vectors(late[family].encode_query(facts.TEXTS), GOLDEN["late"][family]["query"])


@pytest.mark.parametrize("family", FAMILIES)
def test_family_has_the_same_documents(family: str, late: _Late) -> None:
    assert_vectors(late[family].encode_document(facts.TEXTS), GOLDEN["late"][family]["document"])


@pytest.mark.parametrize("family", FAMILIES)
def test_family_has_the_same_documents_one_by_one(family: str, late: _Late) -> None:
    alone = [late[family].encode_document(text) for text in facts.TEXTS]
    assert_vectors(alone, GOLDEN["late"][family]["document"])


@pytest.mark.parametrize("family", FAMILIES)
def test_family_has_the_same_maxsim(family: str, late: _Late) -> None:
    assert_both(late[family], GOLDEN["late"][family])


EXPANSIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "fixed": ("bert", {"strategy": "fixed", "attend": False, "length": 16}),
    "fixed_attend": ("bert", {"strategy": "fixed", "attend": True, "length": 16}),
    "fixed_token": ("bert", {"strategy": "fixed", "attend": True, "token": "[UNK]", "length": 16}),
    "min": ("bert", {"strategy": "min", "attend": False, "length": 12}),
    "min_attend": ("bert", {"strategy": "min", "attend": True, "length": 12}),
    "roberta": ("roberta", {"strategy": "fixed", "attend": False, "length": 16}),
}


@pytest.mark.parametrize("name", EXPANSIONS)
def test_query_expansion(name: str, tmp_path: Path) -> None:
    family, expansion = EXPANSIONS[name]
    model = MultiVectorEncoder(str(heads.build_late(family, tmp_path, query_expansion=expansion)), device="cpu")
    assert_vectors(model.encode_query(facts.TEXTS), REAL[f"expansion_{name}"])


@pytest.mark.parametrize("name", EXPANSIONS)
def test_query_expansion_one_by_one(name: str, tmp_path: Path) -> None:
    family, expansion = EXPANSIONS[name]
    model = MultiVectorEncoder(str(heads.build_late(family, tmp_path, query_expansion=expansion)), device="cpu")
    assert_vectors([model.encode_query(text) for text in facts.TEXTS], REAL[f"expansion_{name}"])


def test_lengths_of_queries_and_documents(tmp_path: Path) -> None:
    path = heads.build_late("bert", tmp_path, query_length=6, document_length=9)
    assert_both(MultiVectorEncoder(str(path), device="cpu"), REAL["lengths"])


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "pylate": heads.build_pylate,
    "pylate_plain": lambda at: heads.build_pylate(at, do_query_expansion=False, skiplist_words=[]),
    "stanford": heads.build_stanford,
    "stanford_attend": lambda at: heads.build_stanford(at, attend_to_mask_tokens=True, mask_punctuation=False),
    "converted": heads.build_sentence_dense,
    "pooled": lambda at: heads.build_late("bert", at, pooled=True),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(name: str, tmp_path: Path) -> None:
    golden = REAL[name]
    model = MultiVectorEncoder(str(rebuilt(LAYOUTS[name], tmp_path, golden["fingerprint"])), device="cpu")
    assert [type(part).__name__ for part in model] == golden["parts"]
    assert model.max_seq_length == golden["max_seq_length"]
    assert_both(model, golden)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_saved_and_loaded_again(name: str, tmp_path: Path) -> None:
    model = MultiVectorEncoder(str(LAYOUTS[name](tmp_path / "before")), device="cpu")
    model.save(str(tmp_path / "after"))
    again = MultiVectorEncoder(str(tmp_path / "after"), device="cpu")
    assert any(isinstance(part, MultiVectorMask) for part in again)
    assert_both(again, REAL[name])


def test_token_pooling_of_the_call(late: _Late) -> None:
    pooling = HierarchicalTokenPooling(pool_factor=3, num_protected_tokens=2)
    found = late["bert"].encode_document(facts.TEXTS, token_pooling=pooling)
    assert_vectors(found, REAL["pooled_by_call"])


@pytest.mark.parametrize(("name", "prefix"), [("maxsim", ""), ("meanmaxsim", "meanmaxsim_")])
def test_pairwise_similarity(name: str, prefix: str, late: _Late) -> None:
    model = MultiVectorEncoder(modules=list(late["bert"]), similarity_fn_name=name, device="cpu")
    queries, documents = late["bert"].encode_query(facts.TEXTS), late["bert"].encode_document(facts.TEXTS)
    assert_close(model.similarity_pairwise(queries, documents), REAL[f"{prefix}pairwise"])


def test_mean_maxsim(late: _Late) -> None:
    model = MultiVectorEncoder(modules=list(late["bert"]), similarity_fn_name="meanmaxsim", device="cpu")
    queries, documents = late["bert"].encode_query(facts.TEXTS), late["bert"].encode_document(facts.TEXTS)
    assert_close(model.similarity(queries, documents), REAL["meanmaxsim"])


@pytest.mark.parametrize(("call", "says"), facts.LATE.items())
def test_fact(call: str, says: str, late: _Late) -> None:
    tokens: list[torch.Tensor] = late["bert"].encode(["the cat", "a dog sat"])
    names = {
        "m": late["bert"], "cls": MultiVectorEncoder, "path": str(late.folder / "bert"), "tokens": tokens,
        "Transformer": Transformer, "HierarchicalTokenPooling": HierarchicalTokenPooling,
        "LambdaTokenPooling": LambdaTokenPooling,
    }  # fmt: skip
    assert_fact(call, says, GOLDEN["facts_late"][call], names)
