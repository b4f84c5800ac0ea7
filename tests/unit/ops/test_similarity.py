"""Similarity functions: hand values, slow formulas in float64, and what they accept and refuse."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sentence_transformers.ops import similarity
from sentence_transformers.ops.similarity import (
    SimilarityFunction,
    cos_sim,
    dot_score,
    euclidean_sim,
    manhattan_sim,
    pairwise_angle_sim,
    pairwise_cos_sim,
    pairwise_dot_score,
    pairwise_euclidean_sim,
    pairwise_manhattan_sim,
    pytorch_cos_sim,
)

MATRIX = [cos_sim, dot_score, euclidean_sim, manhattan_sim]
PAIRWISE = [pairwise_cos_sim, pairwise_dot_score, pairwise_euclidean_sim, pairwise_manhattan_sim, pairwise_angle_sim]
PAIRS = list(zip(MATRIX, PAIRWISE, strict=False))
Score = Callable[..., Tensor]


def rows(count: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def sparse_rows(count: int, width: int, seed: int = 0) -> Tensor:
    dense = rows(count, width, seed)
    return dense * (dense.abs() > 0.8)


def slow(name: str, x: np.ndarray, y: np.ndarray) -> float:
    x, y = x.astype(np.float64), y.astype(np.float64)
    if name == "cos_sim":
        lengths = np.sqrt((x * x).sum()) * np.sqrt((y * y).sum())
        return float((x * y).sum() / lengths) if lengths else 0.0
    if name == "dot_score":
        return float((x * y).sum())
    if name == "euclidean_sim":
        return -float(np.sqrt(((x - y) ** 2).sum()))
    return -float(np.abs(x - y).sum())


@pytest.mark.parametrize("score", MATRIX)
@pytest.mark.parametrize("form", [Tensor.to_dense, Tensor.to_sparse, Tensor.to_sparse_csr])
@pytest.mark.parametrize("other", [Tensor.to_dense, Tensor.to_sparse])
def test_every_score_equals_its_slow_formula(score: Score, form: Score, other: Score) -> None:
    a, b = sparse_rows(5, 40), sparse_rows(7, 40, seed=1)
    expected = [[slow(score.__name__, x, y) for y in b.numpy()] for x in a.numpy()]
    result = score(form(a), other(b))
    assert result.layout == torch.strided
    assert_close(result, torch.tensor(expected, dtype=torch.float32), atol=2e-6, rtol=1e-6)


# recorded from reference 6.2.0
X = [[0.3, -1.2, 0.5, 2.0, 0.7], [1.0, 0, 0, 0, 0]]
Y = [[1.1, 0.2, -0.5, 0.4, 0.9], [-1.0, 2, 0, 1, 0]]
RECORDED = [
    (cos_sim, [[0.32271671295166016, -0.11412706971168518], [0.6999132633209229, -0.40824827551841736]]),
    (dot_score, [[1.2699999809265137, -0.7000001072883606], [1.100000023841858, -1.0]]),
    (euclidean_sim, [[-2.4899799823760986, -3.697296380996704], [-1.126942753791809, -3.0]]),
    (manhattan_sim, [[-5.0, -6.699999809265137], [-2.0999999046325684, -5.0]]),
    (pairwise_cos_sim, [0.32271671295166016, -0.40824827551841736]),
    (pairwise_dot_score, [1.2699999809265137, -1.0]),
    (pairwise_euclidean_sim, [-2.4899799823760986, -3.0]),
    (pairwise_manhattan_sim, [-5.0, -5.0]),
    (pairwise_angle_sim, [1.1612720489501953, 0.8164965510368347]),
]


@pytest.mark.parametrize(("score", "expected"), RECORDED)
def test_scores_equal_the_recorded_ones(score: Score, expected: list[float]) -> None:
    assert_close(score(X, Y), torch.tensor(expected), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("matrix", "pairwise"), PAIRS)
@pytest.mark.parametrize("form", [Tensor.to_dense, Tensor.to_sparse])
def test_pairwise_is_the_diagonal(matrix: Score, pairwise: Score, form: Score) -> None:
    a, b = form(sparse_rows(6, 30)), form(sparse_rows(6, 30, seed=1))
    assert_close(pairwise(a, b), matrix(a, b).diagonal(), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("pairwise", PAIRWISE)
def test_pairwise_of_sparse_and_dense_equals_dense(pairwise: Score) -> None:
    a, b = sparse_rows(6, 30), sparse_rows(6, 30, seed=1)
    assert_close(pairwise(a.to_sparse(), b), pairwise(a, b), atol=2e-6, rtol=1e-5)
    assert_close(pairwise(a, b.to_sparse()), pairwise(a, b), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("pairwise", PAIRWISE)
@pytest.mark.parametrize("form", [Tensor.to_dense, Tensor.to_sparse])
def test_pairwise_compares_one_row_with_all(pairwise: Score, form: Score) -> None:
    a, b = rows(4, 6), rows(1, 6, seed=1)
    expected = pairwise(a, b.expand(4, 6).contiguous())
    assert_close(pairwise(form(a), form(b)), expected)
    assert_close(pairwise(form(a), form(b[0])), expected)


@pytest.mark.parametrize("pairwise", PAIRWISE)
@pytest.mark.parametrize("form", [Tensor.to_dense, Tensor.to_sparse])
def test_pairwise_of_two_vectors_is_a_number(pairwise: Score, form: Score) -> None:
    a, b = rows(2, 6)
    result = pairwise(form(a), form(b))
    assert result.shape == ()
    assert_close(result, pairwise(a[None], b[None])[0])


@pytest.mark.parametrize("score", MATRIX)
def test_matrix_scores_take_a_vector_as_one_row(score: Score) -> None:
    a, b = rows(1, 6), rows(3, 6, seed=1)
    assert_close(score(a[0], b), score(a, b))
    assert score(b, a[0].to_sparse()).shape == (3, 1)


@pytest.mark.parametrize("score", MATRIX + PAIRWISE)
def test_every_container_gives_the_same(score: Score) -> None:
    a, b = rows(3, 6), rows(3, 6, seed=1)
    expected = score(a, b)
    assert_close(score(a.numpy(), b.numpy()), expected)
    assert_close(score(a.tolist(), b.tolist()), expected)
    assert_close(score(list(a), list(b.numpy())), expected)
    assert_close(score(tuple(a.numpy()), [b[0], b[1].numpy(), b[2]]), expected)
    assert_close(score([row.to_sparse() for row in a], b), expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("score", MATRIX + PAIRWISE)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", [Tensor.to_dense, Tensor.to_sparse])
def test_half_precision_is_computed_in_float32(score: Score, dtype: torch.dtype, form: Score) -> None:
    a, b = rows(3, 50).to(dtype), rows(3, 50, seed=1).to(dtype)
    result = score(form(a), form(b))
    assert result.dtype == torch.float32
    assert_close(result, score(a.float(), b.float()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("score", MATRIX + PAIRWISE)
def test_float64_stays_float64_also_against_float32(score: Score) -> None:
    a, b = rows(3, 6), rows(3, 6, seed=1)
    assert score(a.double(), b).dtype == torch.float64
    assert score(a, b.double().to_sparse()).dtype == torch.float64


@pytest.mark.parametrize("score", MATRIX)
def test_integers_do_not_overflow(score: Score) -> None:
    a = torch.full((1, 8), 100, dtype=torch.int8)
    assert_close(score(a, -a), score(a.float(), -a.float()))


@pytest.mark.parametrize("score", MATRIX + PAIRWISE)
def test_unequal_widths_are_an_error_that_says_both_shapes(score: Score) -> None:
    with pytest.raises(ValueError, match=r"same width.*\(2, 4\) and \(2, 3\)"):
        score(torch.ones(2, 4), torch.ones(2, 3))


@pytest.mark.parametrize("score", PAIRWISE)
def test_unequal_numbers_of_pairs_are_an_error(score: Score) -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(4, 3\)"):
        score(torch.ones(2, 3), torch.ones(4, 3))


@pytest.mark.parametrize("score", MATRIX)
def test_three_dimensions_are_an_error(score: Score) -> None:
    with pytest.raises(ValueError, match="one \\(width,\\) row"):
        score(torch.ones(2, 1, 3), torch.ones(2, 3))


@pytest.mark.parametrize("score", MATRIX)
def test_no_rows_give_no_scores(score: Score) -> None:
    b = rows(3, 6)
    assert score([], b).shape == (0, 3)
    assert score(b, np.array([])).shape == (3, 0)
    assert score(torch.zeros(0, 6), b).shape == (0, 3)
    assert score(torch.zeros(0, 6).to_sparse(), b.to_sparse()).shape == (0, 3)
    assert score([], []).shape == (0, 0)


@pytest.mark.parametrize("score", PAIRWISE)
def test_no_pairs_give_no_scores(score: Score) -> None:
    assert score([], []).shape == (0,)
    assert score(torch.zeros(0, 6), torch.zeros(0, 6)).shape == (0,)


@pytest.mark.parametrize("score", MATRIX + PAIRWISE)
def test_gradients_are_finite_for_equal_rows(score: Score) -> None:
    a = rows(3, 6).requires_grad_()
    score(a, a.detach()).sum().backward()
    assert a.grad is not None
    assert a.grad.isfinite().all()


def test_cosine_of_a_zero_row_is_zero() -> None:
    assert_close(cos_sim(torch.zeros(1, 3), torch.ones(1, 3)), torch.zeros(1, 1))
    assert_close(cos_sim(torch.zeros(1, 3).half().to_sparse(), torch.ones(1, 3)), torch.zeros(1, 1))


def test_pytorch_cos_sim_is_cos_sim() -> None:
    assert_close(pytorch_cos_sim(X, Y), cos_sim(X, Y))


@pytest.mark.parametrize("score", [euclidean_sim, manhattan_sim])
def test_sparse_distance_to_itself_is_zero(score: Score) -> None:
    a = sparse_rows(5, 2000).to_sparse()
    distances = -score(a, a).diagonal()
    assert (distances >= 0).all()
    assert_close(distances, torch.zeros(5), atol=1e-5, rtol=0.0)


def test_sparse_manhattan_in_many_small_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = sparse_rows(9, 40), sparse_rows(11, 40, seed=1)
    whole = manhattan_sim(a.to_sparse(), b.to_sparse())
    monkeypatch.setattr(similarity, "BLOCK_ELEMENTS", 40)
    assert_close(manhattan_sim(a.to_sparse(), b.to_sparse()), whole)


def test_manhattan_gradient_in_blocks_is_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "BLOCK_ELEMENTS", 20)
    a, b = rows(5, 4, seed=3).double().requires_grad_(), rows(3, 4, seed=4).double()
    manhattan_sim(a, b).sum().backward()
    assert_close(a.grad, -(a.detach()[:, None] - b).sign().sum(1))


def test_sparse_manhattan_sends_gradients_to_the_values() -> None:
    a, b = sparse_rows(3, 6).requires_grad_(), sparse_rows(2, 6, seed=1)
    manhattan_sim(a.to_sparse(), b.to_sparse()).sum().backward()
    active = a.detach() != 0
    expected = -(a.detach()[:, None] - b).sign().sum(1) * active
    assert a.grad is not None
    assert_close(a.grad * active, expected)


def test_sparse_scores_need_no_scipy() -> None:
    code = (
        "import sys; sys.modules['scipy'] = None; sys.modules['sklearn'] = None; import torch\n"
        "from sentence_transformers.ops.similarity import manhattan_sim\n"
        "print(manhattan_sim(torch.eye(2).to_sparse(), torch.eye(2).to_sparse()).tolist())"
    )
    checkout = Path(__file__).resolve().parents[3]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=checkout)
    assert result.stdout.strip() in ("[[-0.0, -2.0], [-2.0, -0.0]]", "[[0.0, -2.0], [-2.0, 0.0]]")


def test_angle_of_a_quarter_turn() -> None:
    # x = 1, y = i: x conj(y) = -i, real 0, imaginary -1
    assert_close(pairwise_angle_sim([[2.0, 0.0]], [[0.0, 3.0]]), torch.tensor([1.0]))


def test_angle_equals_complex_arithmetic() -> None:
    x, y = rows(4, 10).double(), rows(4, 10, seed=1).double()
    x_unit, y_unit = (side / side.norm(dim=1, keepdim=True) for side in (x, y))
    product = torch.complex(x_unit[:, :5], x_unit[:, 5:]) * torch.complex(y_unit[:, :5], y_unit[:, 5:]).conj()
    assert_close(pairwise_angle_sim(x, y), (product.real + product.imag).sum(1).abs())


def test_dot_is_another_name_of_dot_product() -> None:
    assert SimilarityFunction.DOT is SimilarityFunction.DOT_PRODUCT


def test_possible_values_are_the_names_of_the_reference() -> None:
    assert SimilarityFunction.possible_values() == ["cosine", "dot", "euclidean", "manhattan", "maxsim", "meanmaxsim"]


@pytest.mark.parametrize("member", list(SimilarityFunction))
def test_names_and_members_lead_to_the_same_functions(member: SimilarityFunction) -> None:
    stem = {"cosine": "cos_sim", "dot": "dot_score", "meanmaxsim": "mean_maxsim", "maxsim": "maxsim"}
    name = stem.get(member.value, f"{member.value}_sim")
    pairwise = f"{name}_pairwise" if "maxsim" in name else f"pairwise_{name}"
    assert SimilarityFunction.to_similarity_fn(member) is getattr(similarity, name)
    assert SimilarityFunction.to_similarity_fn(member.value) is getattr(similarity, name)
    assert SimilarityFunction.to_similarity_pairwise_fn(member.value) is getattr(similarity, pairwise)


@pytest.mark.parametrize("value", ["nope", None])
def test_an_unknown_similarity_is_an_error(value: str) -> None:
    with pytest.raises(ValueError, match="is not a valid SimilarityFunction"):
        SimilarityFunction.to_similarity_fn(value)
