"""How a dense model compares vectors, and how wide they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sentence_transformers import SentenceTransformer, SimilarityFunction
from tests.unit.encoders.folders import TEXTS, WIDTH

LEFT = np.array([[3.0, 4.0], [0.0, 2.0]], dtype=np.float32)
RIGHT = np.array([[1.0, 0.0], [6.0, 8.0], [0.0, 5.0]], dtype=np.float32)
MATRIX = {
    "cosine": [[0.6, 1.0, 0.8], [0.0, 0.8, 1.0]],
    "dot": [[3.0, 50.0, 20.0], [0.0, 16.0, 10.0]],
    "euclidean": [[-(20**0.5), -5.0, -(10**0.5)], [-(5**0.5), -(72**0.5), -3.0]],
    "manhattan": [[-6.0, -7.0, -4.0], [-3.0, -12.0, -3.0]],
}
NAMES = sorted(MATRIX)


@pytest.mark.parametrize("name", NAMES)
def test_the_matrix(name: str, changeable: SentenceTransformer) -> None:
    changeable.similarity_fn_name = name
    scores = changeable.similarity(LEFT, RIGHT)
    assert type(scores) is torch.Tensor
    assert_allclose(scores.numpy(), MATRIX[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_pairwise_is_the_diagonal(name: str, changeable: SentenceTransformer) -> None:
    changeable.similarity_fn_name = name
    scores = changeable.similarity_pairwise(LEFT, RIGHT[:2])
    assert_allclose(scores.numpy(), np.diagonal(MATRIX[name]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "form",
    [
        torch.from_numpy,
        list,
        lambda rows: rows.tolist(),
        lambda rows: [torch.from_numpy(row) for row in rows],
        lambda rows: torch.from_numpy(rows).half(),
        lambda rows: torch.from_numpy(rows).bfloat16(),
    ],
    ids=["tensor", "list of arrays", "lists", "list of tensors", "float16", "bfloat16"],
)
def test_every_form_of_vectors_is_compared(form: Any, bert: SentenceTransformer) -> None:
    scores = bert.similarity(form(LEFT), RIGHT)
    assert scores.dtype == torch.float32
    assert_allclose(scores.numpy(), MATRIX["cosine"], rtol=1e-6, atol=1e-6)


def test_one_vector_is_one_row(bert: SentenceTransformer) -> None:
    assert_allclose(bert.similarity(LEFT[0], RIGHT).numpy(), MATRIX["cosine"][:1], rtol=1e-6)


def test_the_result_of_encode_can_be_compared_in_every_form(bert: SentenceTransformer) -> None:
    vectors = bert.encode(TEXTS)
    expected = bert.similarity(vectors, vectors)
    for options in ({"convert_to_tensor": True}, {"convert_to_numpy": False}):
        assert torch.allclose(bert.similarity(bert.encode(TEXTS, **options), vectors), expected, atol=1e-6)
    assert_allclose(expected.diagonal().numpy(), np.ones(3), rtol=1e-6)


def test_vectors_of_different_widths_are_refused(bert: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match="same width"):
        bert.similarity(LEFT, np.ones((2, 3), dtype=np.float32))


# --- the name


def test_the_name_is_cosine_until_it_is_set(bert: SentenceTransformer) -> None:
    assert bert.similarity_fn_name == "cosine"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("dot", "dot"),
        (SimilarityFunction.DOT, "dot"),
        (SimilarityFunction.DOT_PRODUCT, "dot"),
        (SimilarityFunction.COSINE, "cosine"),
        (SimilarityFunction.EUCLIDEAN, "euclidean"),
        (SimilarityFunction.MANHATTAN, "manhattan"),
        (None, "cosine"),
    ],
)
def test_a_name_or_an_enum_is_read_back_as_a_name(given: Any, name: str, changeable: SentenceTransformer) -> None:
    changeable.similarity_fn_name = given
    assert type(changeable.similarity_fn_name) is str
    assert changeable.similarity_fn_name == name


@pytest.mark.parametrize("wrong", ["foo", "", 5])
def test_an_unknown_name_is_refused_and_changes_nothing(wrong: Any, changeable: SentenceTransformer) -> None:
    changeable.similarity_fn_name = "dot"
    with pytest.raises(ValueError, match=r"'cosine', 'dot', 'euclidean', 'manhattan'"):
        changeable.similarity_fn_name = wrong
    assert changeable.similarity_fn_name == "dot"


@pytest.mark.parametrize("late", ["maxsim", "meanmaxsim", SimilarityFunction.MAXSIM])
def test_late_interaction_is_referred_to_its_encoder(late: Any, changeable: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match="MultiVectorEncoder"):
        changeable.similarity_fn_name = late


@pytest.mark.parametrize("given", ["euclidean", SimilarityFunction.EUCLIDEAN])
def test_the_constructor_takes_it(given: Any, bert_folder: Path) -> None:
    model = SentenceTransformer(str(bert_folder), device="cpu", similarity_fn_name=given)
    assert_allclose(model.similarity(LEFT, RIGHT).numpy(), MATRIX["euclidean"], rtol=1e-6)


@pytest.mark.parametrize("wrong", ["foo", "maxsim"])
def test_the_constructor_refuses_an_unknown_name(wrong: str, bert_folder: Path) -> None:
    with pytest.raises(ValueError, match="similarity_fn_name"):
        SentenceTransformer(str(bert_folder), device="cpu", similarity_fn_name=wrong)


# --- how wide vectors are


def test_the_width_is_that_of_the_last_module_that_knows_it(bert: SentenceTransformer) -> None:
    assert bert.get_embedding_dimension() == WIDTH == bert.encode(TEXTS).shape[1]


def test_the_old_name_of_the_width_warns(bert: SentenceTransformer) -> None:
    with pytest.warns(FutureWarning, match="get_embedding_dimension"):
        assert bert.get_sentence_embedding_dimension() == WIDTH


@pytest.mark.parametrize(("limit", "width"), [(8, 8), (WIDTH, WIDTH), (800, WIDTH), (None, WIDTH)])
def test_the_width_is_at_most_truncate_dim(limit: int | None, width: int, bert_folder: Path) -> None:
    model = SentenceTransformer(str(bert_folder), device="cpu", truncate_dim=limit)
    assert (model.truncate_dim, model.get_embedding_dimension(), model.encode(TEXTS).shape) == (
        limit,
        width,
        (3, width),
    )


def test_a_block_may_truncate(changeable: SentenceTransformer) -> None:
    with changeable.truncate_embeddings(4):
        assert (changeable.encode(TEXTS).shape, changeable.get_embedding_dimension()) == ((3, 4), 4)
    assert (changeable.truncate_dim, changeable.encode(TEXTS).shape) == (None, (3, WIDTH))


def test_a_block_may_switch_truncation_off(changeable: SentenceTransformer) -> None:
    changeable.truncate_dim = 8
    with changeable.truncate_embeddings(None):
        assert changeable.encode(TEXTS).shape == (3, WIDTH)
    assert changeable.truncate_dim == 8


def test_truncation_of_a_block_ends_with_an_error_too(changeable: SentenceTransformer) -> None:
    with pytest.raises(KeyError), changeable.truncate_embeddings(4):
        raise KeyError
    assert changeable.truncate_dim is None


def test_the_old_name_of_such_a_block_warns(changeable: SentenceTransformer) -> None:
    with pytest.warns(FutureWarning, match="truncate_embeddings"), changeable.truncate_sentence_embeddings(4):
        assert changeable.encode(TEXTS).shape == (3, 4)
