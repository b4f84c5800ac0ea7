"""What encoders of embeddings share: the similarity, the width, ``encode_query`` and ``encode_document``."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny_heads as heads
import torch
from torch import nn

from sentence_transformers import (
    CrossEncoder,
    MultiVectorEncoder,
    SentenceTransformer,
    SimilarityFunction,
    SparseEncoder,
)
from sentence_transformers.encoders.embedding import EmbeddingEncoder, width_of
from sentence_transformers.encoders.prompts import document_prompt
from sentence_transformers.modules.pooling import Pooling
from tests.unit.encoders.folders import read_json, write_json

VECTORS = ("cosine", "dot", "euclidean", "manhattan")
KINDS: dict[str, tuple[type[EmbeddingEncoder], Callable[[Path], Path], str, tuple[str, ...]]] = {
    "dense": (SentenceTransformer, heads.build_sentence_dense, "cosine", VECTORS),
    "sparse": (SparseEncoder, lambda folder: heads.build_splade(folder, "max", "relu"), "dot", VECTORS),
    "late": (MultiVectorEncoder, lambda folder: heads.build_late("bert", folder), "maxsim", ("maxsim", "meanmaxsim")),
}
"""Name -> class, what writes a folder, the similarity unless told, all similarities."""

CLASSES = [kind for kind, *_ in KINDS.values()]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Don't write."""
    root = tmp_path_factory.mktemp("kinds")
    return cache(lambda name: KINDS[name][1](root / name))


@pytest.fixture(params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(name: str, folder_of: Callable[[str], Path]) -> Any:
    """A model of the test's own, of each kind."""
    return opened(name, folder_of)


def opened(name: str, folder_of: Callable[[str], Path], **settings: Any) -> Any:
    return KINDS[name][0](str(folder_of(name)), device="cpu", **settings)


def numbers(result: Any) -> list[list[Any]]:
    """What ``encode`` gives for a list of texts, as numbers."""
    return [torch.as_tensor(row.to_dense() if isinstance(row, torch.Tensor) else row).tolist() for row in result]


# --- similarity


def test_the_similarity_unless_told(name: str, model: Any) -> None:
    assert model.similarity_fn_name == KINDS[name][2]


def test_every_similarity_by_name_and_by_member(name: str, folder_of: Callable[[str], Path]) -> None:
    for similarity in KINDS[name][3]:
        for given in (similarity, SimilarityFunction(similarity)):
            assert opened(name, folder_of, similarity_fn_name=given).similarity_fn_name == similarity


def test_the_similarity_is_the_function_of_its_name(name: str, model: Any) -> None:
    one, two = model.encode(["the cat", "a dog", "sea"]), model.encode(["x", "the sea", "the cat"])
    for similarity in KINDS[name][3]:
        model.similarity_fn_name = similarity
        function = SimilarityFunction.to_similarity_fn(similarity)
        pairwise = SimilarityFunction.to_similarity_pairwise_fn(similarity)
        assert torch.equal(model.similarity(one, two), function(one, two))
        assert torch.equal(model.similarity_pairwise(one, two), pairwise(one, two))


def test_the_similarity_can_be_taken_back(name: str, model: Any) -> None:
    model.similarity_fn_name = KINDS[name][3][-1]
    model.similarity_fn_name = None
    assert model.similarity_fn_name == KINDS[name][2]


@pytest.mark.parametrize("wrong", ["cosin", "COSINE", 3, ""])
def test_an_unknown_similarity_changes_nothing(wrong: Any, name: str, model: Any) -> None:
    with pytest.raises(ValueError, match=f"{type(model).__name__} only supports similarity_fn_name in .*, got"):
        model.similarity_fn_name = wrong
    assert model.similarity_fn_name == KINDS[name][2]


@pytest.mark.parametrize(
    ("kind", "wrong", "hint"),
    [
        ("dense", "maxsim", "belong to MultiVectorEncoder"),
        ("sparse", SimilarityFunction.MEAN_MAXSIM, "belong to MultiVectorEncoder"),
        ("late", "cosine", "belong to SentenceTransformer"),
        ("late", "xtr", "xtr_scores"),
    ],
)
def test_the_similarity_of_another_encoder_says_which(
    kind: str, wrong: Any, hint: str, folder_of: Callable[[str], Path]
) -> None:
    with pytest.raises(ValueError, match=hint):
        opened(kind, folder_of, similarity_fn_name=wrong)


def test_a_saved_similarity_comes_back_unless_told(
    name: str, model: Any, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    kind, _, usual, all_of_them = KINDS[name]
    model.similarity_fn_name = all_of_them[1 if all_of_them[0] == usual else 0]
    model.save(str(tmp_path))
    assert kind(str(tmp_path), device="cpu").similarity_fn_name == model.similarity_fn_name != usual
    assert kind(str(tmp_path), device="cpu", similarity_fn_name=usual).similarity_fn_name == usual


@pytest.mark.parametrize("saved", [None, "MaxSim", "nope", 3])
def test_a_saved_similarity_that_is_unknown_is_the_usual_one(
    saved: Any, name: str, model: Any, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    model.save(str(tmp_path))
    config = read_json(tmp_path / "config_sentence_transformers.json") | {"similarity_fn_name": saved}
    write_json(tmp_path / "config_sentence_transformers.json", config)
    assert KINDS[name][0](str(tmp_path), device="cpu").similarity_fn_name == KINDS[name][2]


# --- signatures of the roles


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("role", ["encode_query", "encode_document"])
def test_roles_show_the_arguments_of_encode(role: str, kind: Any) -> None:
    """Names, order, kinds and defaults; all but ``task``, which the role itself is."""
    expected = [p for p in inspect.signature(kind.encode).parameters.values() if p.name != "task"]
    assert list(inspect.signature(getattr(kind, role)).parameters.values()) == expected
    assert len(expected) > 12


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("role", ["encode_query", "encode_document"])
def test_roles_are_methods_of_their_class(role: str, kind: Any) -> None:
    method = getattr(kind, role)
    assert (method.__name__, method.__module__) == (role, kind.__module__)
    assert method.__qualname__ == f"{kind.__name__}.{role}"
    assert method.__doc__.startswith("``encode`` for ")


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (
            SparseEncoder,
            "prompt_name prompt batch_size show_progress_bar convert_to_tensor convert_to_sparse_tensor save_to_cpu "
            "device max_active_dims pool chunk_size",
        ),
        (
            MultiVectorEncoder,
            "prompt_name prompt batch_size show_progress_bar output_value convert_to_numpy device "
            "normalize_embeddings pool chunk_size token_pooling task",
        ),
    ],
)
def test_arguments_of_encode_stand_where_the_reference_has_them(kind: Any, names: str) -> None:
    parameters = inspect.signature(kind.encode).parameters.values()
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == ["self", "inputs", *names.split()]


@pytest.mark.parametrize(
    ("kind", "own"),
    [(SparseEncoder, {"similarity_fn_name", "max_active_dims"}), (MultiVectorEncoder, {"similarity_fn_name"})],
)
def test_constructors_name_every_argument(kind: Any, own: set[str]) -> None:
    parameters = inspect.signature(kind).parameters
    shared = inspect.signature(CrossEncoder).parameters.keys() & inspect.signature(SentenceTransformer).parameters
    assert parameters.keys() == shared | own
    assert len(shared) > 14
    assert not [p for p in parameters.values() if p.kind is p.VAR_KEYWORD]


# --- what the roles do


def test_a_role_takes_its_prompt(name: str, folder_of: Callable[[str], Path]) -> None:
    model = opened(name, folder_of, prompts={"query": "ask: ", "document": "say: "})
    for encode, prompt, task in ((model.encode_query, "ask: ", "query"), (model.encode_document, "say: ", "document")):
        assert numbers(encode(["the cat"])) == numbers(model.encode(["the cat"], prompt=prompt, task=task))
    assert numbers(model.encode_query(["the cat"])) != numbers(model.encode_document(["the cat"]))


def test_what_the_call_says_wins_over_the_role(name: str, folder_of: Callable[[str], Path]) -> None:
    model = opened(name, folder_of, prompts={"query": "ask: ", "document": "say: ", "mine": "for: "})
    for encode, task in ((model.encode_query, "query"), (model.encode_document, "document")):
        expected = numbers(model.encode(["the cat"], prompt="for: ", task=task))
        assert numbers(encode(["the cat"], prompt="for: ")) == expected
        assert numbers(encode(["the cat"], "mine")) == expected
        assert numbers(encode(["the cat"], None, "for: ")) == expected


def test_an_empty_role_prompt_switches_the_default_off(name: str, folder_of: Callable[[str], Path]) -> None:
    prompts = {"query": "", "document": "", "usual": "for: "}
    model = opened(name, folder_of, prompts=prompts, default_prompt_name="usual")
    plain = numbers(model.encode(["the cat"], prompt="", task="query"))
    assert numbers(model.encode_query(["the cat"])) == plain != numbers(model.encode(["the cat"], task="query"))


def test_a_role_without_a_prompt_takes_the_default(model: Any) -> None:
    model.prompts, model.default_prompt_name = {"usual": "for: "}, "usual"
    for encode, task in ((model.encode_query, "query"), (model.encode_document, "document")):
        assert numbers(encode(["the cat"])) == numbers(model.encode(["the cat"], prompt="for: ", task=task))


@pytest.mark.parametrize(
    ("prompts", "chosen"),
    [
        ({"query": "q"}, None),
        ({"document": "d", "passage": "p", "corpus": "c"}, "document"),
        ({"document": "", "passage": "p", "corpus": "c"}, "passage"),
        ({"document": "", "passage": "", "corpus": "c"}, "corpus"),
        ({"corpus": "c", "passage": "p"}, "passage"),
        ({"document": "", "passage": ""}, "document"),
        ({"corpus": ""}, "corpus"),
        ({}, None),
    ],
)
def test_the_prompt_of_documents(prompts: dict[str, str], chosen: str | None) -> None:
    assert document_prompt(prompts) == chosen


@pytest.mark.parametrize(("role", "other"), [("query", "document"), ("document", "query")])
def test_a_role_takes_no_task(role: str, other: str, model: Any) -> None:
    with pytest.raises(TypeError, match=rf"encode_{role}\(\) is encode\(\.\.\., task='{role}'\)"):
        getattr(model, f"encode_{role}")(["the cat"], task=other)


def test_a_role_goes_through_encode_of_a_subclass(name: str, folder_of: Callable[[str], Path]) -> None:
    class Asked(KINDS[name][0]):  # type: ignore[misc]
        def encode(self, *args: Any, **kwargs: Any) -> Any:
            return args, kwargs

    model = Asked(str(folder_of(name)), device="cpu")
    assert model.encode_query("x", batch_size=3) == (("x", "query", None), {"batch_size": 3, "task": "query"})
    assert model.encode_document("x", None, "p", 3) == (("x", None, "p", 3), {"task": "document"})


@pytest.mark.parametrize("role", ["encode", "encode_query", "encode_document"])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_the_old_name_of_inputs_warns_with_the_name_of_the_method(
    kind: str, role: str, folder_of: Callable[[str], Path]
) -> None:
    model = opened(kind, folder_of)
    method = f"{type(model).__name__}.{role}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = getattr(model, role)(sentences=["the cat"])
    assert numbers(found) == numbers(getattr(model, role)(["the cat"]))
    told = [str(item.message) for item in caught if item.category is FutureWarning]
    assert told == [f"{method}(sentences=...) is now {method}(inputs=...)."]
    assert {item.filename for item in caught if item.category is FutureWarning} == {__file__}


# --- the width


class Old(nn.Module):
    """A part of before version 5."""

    def get_word_embedding_dimension(self) -> int:
        return 7


class Unsure(Old):
    """A part whose newer method does not know."""

    def get_embedding_dimension(self) -> int | None:
        return None


def test_the_last_part_that_knows_its_width_says_it() -> None:
    assert width_of([Pooling(5), nn.Identity()]) == 5
    assert width_of([Pooling(5), Old(), nn.Identity()]) == 7
    assert width_of([Pooling(5), Unsure()]) == 5
    assert width_of([nn.Identity()]) is None
    assert width_of([]) is None


def test_the_width_is_that_of_the_vectors(name: str, model: Any) -> None:
    row = model.encode(["the cat"])[0]
    assert model.get_embedding_dimension() == row.shape[-1]


def test_the_old_name_of_the_width_warns(model: Any) -> None:
    with pytest.warns(FutureWarning, match="is now get_embedding_dimension"):
        assert model.get_sentence_embedding_dimension() == model.get_embedding_dimension()


# --- prompts and pooling


def test_the_prompt_is_left_out_of_the_mean_of_a_sparse_model(tmp_path: Path) -> None:
    model = SparseEncoder(str(heads.build_csr(tmp_path)), device="cpu")
    with_prompt, alone = model.encode(["the cat"], prompt="for: "), model.encode(["the cat"])
    model.set_pooling_include_prompt(False)
    assert model[1].include_prompt is False
    without = model.encode(["the cat"], prompt="for: ")
    assert not torch.equal(without.to_dense(), with_prompt.to_dense())
    assert torch.equal(model.encode(["the cat"]).to_dense(), alone.to_dense())


def test_a_model_without_pooling_has_no_prompt_to_leave_out(folder_of: Callable[[str], Path]) -> None:
    model = opened("late", folder_of)
    before = numbers(model.encode_query(["the cat"]))
    model.set_pooling_include_prompt(False)
    assert numbers(model.encode_query(["the cat"])) == before
