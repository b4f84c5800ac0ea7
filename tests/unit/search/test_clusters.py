"""Communities and threshold clusters: equal to a slow walk over all cosines, and to connected components."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sentence_transformers.search import clusters as page
from sentence_transformers.search import pairs as pairs_page
from sentence_transformers.search.clusters import _Forest, community_detection, threshold_clusters

Clusters = list[list[int]]
BOTH = [community_detection, lambda rows, threshold, **rest: threshold_clusters(rows, threshold, **rest)]


def signs(count: int, width: int, seed: int = 0, groups: int = 9) -> Tensor:
    """Rows of 1 and -1 in groups; with a width of 4, 16, .. their cosines are exact, and mostly equal to others."""
    make = np.random.default_rng(seed)
    rows = make.choice([-1, 1], size=(groups, width))[make.integers(0, groups, count)]
    return torch.from_numpy(np.where(make.random(rows.shape) < 0.07, -rows, rows)).float()


def cosines(rows: Tensor) -> Any:
    unit = rows.double().numpy()
    lengths = np.linalg.norm(unit, axis=1, keepdims=True)
    unit = unit / np.where(lengths == 0, 1, lengths)
    return unit @ unit.T


def slow_communities(rows: Tensor, threshold: float, smallest: int) -> Clusters:
    scores = cosines(rows)
    near = [[j for j in range(len(rows)) if scores[i, j] >= threshold] for i in range(len(rows))]
    taken: set[int] = set()
    found = []
    for i in sorted(range(len(rows)), key=lambda i: -len(near[i])):
        members = [j for j in near[i] if j not in taken]
        if len(near[i]) >= smallest and i not in taken and len(members) >= smallest:
            found.append(sorted(members, key=lambda j, i=i: (j != i, -scores[i, j], j)))
            taken.update(members)
    return sorted(found, key=len, reverse=True)


def slow_clusters(rows: Tensor, threshold: float) -> Clusters:
    """Grown from the lowest row left, by one neighbour after another."""
    scores, left, found = cosines(rows), set(range(len(rows))), []
    while left:
        waiting = [min(left)]
        left.discard(waiting[0])
        members = []
        while waiting:
            at = waiting.pop()
            members.append(at)
            more = [j for j in left if scores[at, j] >= threshold]
            left.difference_update(more)
            waiting += more
        found.append(sorted(members))
    return sorted(found, key=len, reverse=True)


def on_circle(*degrees: float) -> Tensor:
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], 1).float()


# --- communities


def test_a_community_is_worked_out_by_hand() -> None:
    # a cosine of 0.86 is an angle of 30.7 degrees: only row 2 has four others within it
    rows = on_circle(0, 20, 25, 31, 55, 180)
    assert community_detection(rows, threshold=0.86, min_community_size=2) == [[2, 1, 3, 0, 4]]


def test_a_taken_centre_is_skipped() -> None:
    # within 10.2 degrees: row 2 takes row 4, which therefore does not take row 5 away from row 6
    rows = on_circle(0.5, 4.5, 10, 15, 19, 29, 35)
    assert community_detection(rows, threshold=0.9842, min_community_size=1) == [[2, 3, 1, 4, 0], [5, 6]]


@pytest.mark.parametrize("seed", range(40))
def test_communities_equal_a_slow_walk_over_all_cosines(seed: int) -> None:
    make = np.random.default_rng(seed)
    rows = signs(int(make.integers(3, 90)), int(make.choice([4, 16])), seed)
    threshold, smallest = float(make.choice([-1.0, -0.5, 0.0, 0.5, 0.75, 0.875, 1.0])), int(make.integers(1, 6))
    found = community_detection(rows, threshold, smallest)
    assert found == slow_communities(rows, threshold, smallest)


def test_members_come_by_cosine_then_by_row() -> None:
    rows = torch.tensor([[1.0, 1, 1, -1], [1, 1, -1, -1], [1, 1, 1, 1], [1, 1, 1, -1], [1, 1, 1, 1], [1, 1, 1, 1]])
    assert community_detection(rows, 0.5, 2) == [[0, 3, 1, 2, 4, 5]]


def test_the_centre_comes_first_even_if_another_row_seems_nearer() -> None:
    # the cosine of 0 and 1 is rounded to more than that of 0 and 0
    rows = torch.tensor([[1.0, 2, 3], [3, 6, 9], [2, 4, 6]])
    (found,) = community_detection(rows, 0.9, 1)
    assert found[0] == 0
    assert sorted(found) == [0, 1, 2]


def test_communities_are_disjoint_and_large_enough() -> None:
    rows = torch.randn(400, 5, generator=torch.Generator().manual_seed(3))
    found = community_detection(rows, 0.8, 6)
    members = [row for community in found for row in community]
    assert len(set(members)) == len(members)
    assert [len(community) for community in found] == sorted((len(community) for community in found), reverse=True)
    assert len(found[-1]) >= 6
    scores = cosines(rows)
    assert all(scores[community[0], row] >= 0.8 - 1e-6 for community in found for row in community)


@pytest.mark.parametrize("batch_size", [1, 3, 64, 5000])
def test_the_batch_size_does_not_change_the_communities(batch_size: int) -> None:
    rows = signs(300, 16)
    assert community_detection(rows, 0.5, 3, batch_size) == slow_communities(rows, 0.5, 3)


@pytest.mark.parametrize(("centres", "near"), [(1, 2**22), (7, 2**22), (256, 1), (256, 50)])
def test_how_many_centres_are_looked_at_does_not_change_them(
    centres: int, near: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = signs(200, 16)
    monkeypatch.setattr(page, "CENTRES", centres)
    monkeypatch.setattr(page, "CENTRE_PAIRS", near)
    assert community_detection(rows, 0.5, 3) == slow_communities(rows, 0.5, 3)


def test_with_a_size_of_one_every_row_has_a_community() -> None:
    rows = torch.randn(300, 40, generator=torch.Generator().manual_seed(0))
    for threshold in (0.4, 1.0):
        found = community_detection(rows, threshold, 1)
        assert sorted(row for community in found for row in community) == list(range(300))


def test_a_zero_row_is_near_nothing_above_zero() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    assert community_detection(rows, 0.1, 1) == [[0, 2]]
    assert community_detection(rows, 0.0, 1) == [[0, 2, 1, 3]]
    assert community_detection(rows[[1, 0, 2]], -0.5, 1) == [[0, 1, 2]]


def test_no_cosine_is_above_one() -> None:
    assert community_detection(torch.eye(4), 1.5, 1) == []
    assert threshold_clusters(torch.eye(4), 1.5) == [[0], [1], [2], [3]]


def test_too_few_rows_have_no_community() -> None:
    assert community_detection(torch.ones(9, 2)) == []
    assert community_detection(torch.ones(10, 2)) == [list(range(10))]


# --- threshold clusters


def test_a_chain_is_one_cluster() -> None:
    assert threshold_clusters(on_circle(0, 100, 20, 40, 120, 200), 0.9) == [[0, 2, 3], [1, 4], [5]]


@pytest.mark.parametrize("seed", range(20))
def test_clusters_equal_growing_them_row_by_row(seed: int) -> None:
    make = np.random.default_rng(seed)
    rows = signs(int(make.integers(1, 90)), int(make.choice([4, 16])), seed)
    threshold = float(make.choice([-1.0, 0.0, 0.5, 0.75, 1.0]))
    assert threshold_clusters(rows, threshold) == slow_clusters(rows, threshold)


@pytest.mark.parametrize("share", [0.3, 0.9, 1.1, 3.0])
@pytest.mark.parametrize("seed", range(4))
def test_linked_pairs_are_the_connected_components_of_scipy(share: float, seed: int) -> None:
    sparse = pytest.importorskip("scipy.sparse", reason="needs scipy")
    make, count = np.random.default_rng(seed), 400
    links = make.integers(0, count, (2, int(share * count / 2)))
    forest = _Forest(count)
    for some in np.array_split(links, 7, axis=1):
        forest.link(*some)
    graph = sparse.coo_matrix((np.ones(links.shape[1]), tuple(links)), shape=(count, count))
    _, labels = sparse.csgraph.connected_components(graph, directed=False)
    lowest = np.array([np.flatnonzero(labels == label)[0] for label in range(labels.max() + 1)])
    np.testing.assert_array_equal(forest.roots(np.arange(count)), lowest[labels])


@pytest.mark.parametrize("order", ["up", "down", "shuffled", "star", "reversed star"])
def test_long_chains_and_stars_are_one_set(order: str) -> None:
    count = 3000
    left, right = np.arange(count - 1), np.arange(1, count)
    if order == "star":
        right = np.full(count - 1, count - 1)
    elif order == "reversed star":
        left = np.zeros(count - 1, dtype=np.int64)
    chosen = np.random.default_rng(0).permutation(count - 1) if order == "shuffled" else np.arange(count - 1)
    chosen = chosen[::-1] if order == "down" else chosen
    forest = _Forest(count)
    forest.link(left[chosen], right[chosen])
    assert not forest.roots(np.arange(count)).any()


@pytest.mark.parametrize("batch_size", [1, 3, 64, 5000])
def test_the_batch_size_does_not_change_the_clusters(batch_size: int) -> None:
    rows = signs(300, 16, groups=40)
    assert threshold_clusters(rows, 0.75, batch_size=batch_size) == slow_clusters(rows, 0.75)


def test_the_order_of_the_rows_does_not_change_the_clusters() -> None:
    rows, order = signs(200, 16, groups=40), np.random.default_rng(1).permutation(200)
    found = threshold_clusters(rows[order], 0.75)
    assert {frozenset(order[cluster].tolist()) for cluster in found} == {
        frozenset(cluster) for cluster in threshold_clusters(rows, 0.75)
    }


def test_a_lower_threshold_only_joins_clusters() -> None:
    rows = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    fine, coarse = threshold_clusters(rows, 0.9), threshold_clusters(rows, 0.8, as_labels=True)
    assert all(len(set(coarse[cluster].tolist())) == 1 for cluster in fine)


def test_labels_are_places_in_the_list() -> None:
    rows = signs(120, 16, groups=30)
    for smallest in (1, 3):
        clusters = threshold_clusters(rows, 0.9, min_size=smallest)
        labels = threshold_clusters(rows, 0.9, min_size=smallest, as_labels=True)
        assert (labels.dtype, labels.shape) == (np.int64, (120,))
        assert [np.flatnonzero(labels == place).tolist() for place in range(len(clusters))] == clusters
        assert np.count_nonzero(labels == -1) == 120 - sum(map(len, clusters))
        assert min(map(len, clusters)) >= smallest


def test_smaller_clusters_are_left_out() -> None:
    rows = on_circle(0, 100, 10, 200, 110, 20)
    assert threshold_clusters(rows, 0.9, min_size=2) == [[0, 2, 5], [1, 4]]
    assert threshold_clusters(rows, 0.9, min_size=4) == []
    assert threshold_clusters(rows, 0.9, min_size=3, as_labels=True).tolist() == [0, -1, 0, -1, -1, 0]


# --- both


def test_no_rows_have_neither() -> None:
    for empty in ([], torch.zeros(0, 3), np.zeros((0, 3))):
        assert community_detection(empty, min_community_size=1) == []
        assert threshold_clusters(empty, 0.5) == []
        assert threshold_clusters(empty, 0.5, as_labels=True).shape == (0,)


def test_one_row_is_alone() -> None:
    assert community_detection(torch.ones(3), min_community_size=1) == [[0]]
    assert threshold_clusters(torch.ones(1, 3), 0.5) == [[0]]


FORMS: dict[str, Callable[[Tensor], Any]] = {
    "array": lambda tensor: tensor.numpy(),
    "lists": lambda tensor: tensor.tolist(),
    "list of tensors": list,
    "COO": lambda tensor: tensor.to_sparse(),
    "CSR": lambda tensor: tensor.to_sparse_csr(),
    "float64": lambda tensor: tensor.double(),
    "half": lambda tensor: tensor.half(),
    "int8": lambda tensor: tensor.to(torch.int8),
    "gradient": lambda tensor: tensor.clone().requires_grad_(),
    "columns first": lambda tensor: tensor.t().contiguous().t(),
    "longer": lambda tensor: tensor * torch.arange(1, 1 + len(tensor))[:, None],
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_embeddings_gives_the_same(form: str) -> None:
    rows = signs(90, 16)
    given = FORMS[form](rows)
    assert {frozenset(found) for found in community_detection(given, 0.7, 3)} == {
        frozenset(found) for found in community_detection(rows, 0.7, 3)
    }
    assert threshold_clusters(given, 0.7) == threshold_clusters(rows, 0.7)


def test_a_first_look_in_half_precision_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = signs(600, 64, groups=60)  # exact, and many cosines equal the threshold
    monkeypatch.setattr(pairs_page, "SCREENED_ROWS", 64)
    monkeypatch.setattr(pairs_page, "MOST_SCREENED", 1.0)
    monkeypatch.setattr(pairs_page, "is_worthwhile", lambda: True)
    assert community_detection(rows, 0.75, 3) == slow_communities(rows, 0.75, 3)
    assert threshold_clusters(rows, 0.75) == slow_clusters(rows, 0.75)


def test_rows_in_blocks_of_the_real_size_give_the_same() -> None:
    sparse = pytest.importorskip("scipy.sparse", reason="needs scipy")
    rows = signs(4500, 64, groups=700)
    _, expected = sparse.csgraph.connected_components(sparse.coo_matrix(cosines(rows) >= 0.75), directed=False)
    labels = threshold_clusters(rows, 0.75, as_labels=True)
    pairs = set(zip(labels.tolist(), expected.tolist(), strict=True))
    assert len(pairs) == len(set(labels.tolist())) == len(set(expected.tolist())) > 100


def test_embeddings_are_not_changed() -> None:
    rows = torch.randn(50, 4)
    copy = rows.clone()
    community_detection(rows, 0.5, 2)
    threshold_clusters(rows, 0.5)
    assert_close(rows, copy, rtol=0, atol=0)


def test_progress_is_shown_only_if_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    for find in (community_detection, threshold_clusters):
        find(torch.eye(12), 0.5, show_progress_bar=False)
        assert capsys.readouterr().err == ""
        find(torch.eye(12), 0.5, show_progress_bar=True)
        assert "1/1" in capsys.readouterr().err


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.5", None, True, torch.tensor(0.5)])
@pytest.mark.parametrize("find", BOTH)
def test_a_threshold_that_is_no_number_is_refused(find: Any, value: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(f"threshold must be a finite number, got {value!r}")):
        find(torch.eye(12), value)


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", None, True])
def test_sizes_must_be_positive_integers(value: Any) -> None:
    for find, name in ((community_detection, "min_community_size"), (threshold_clusters, "min_size")):
        for at in (name, "batch_size"):
            with pytest.raises(ValueError, match=re.escape(f"{at} must be a positive integer, got {value!r}")):
                find(torch.eye(12), 0.5, **{at: value})


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("form", [Tensor.to_dense, Tensor.to_sparse, Tensor.half])
@pytest.mark.parametrize("find", BOTH)
def test_a_row_that_is_not_finite_is_named(find: Any, form: Any, value: float) -> None:
    rows = torch.ones(20, 3)
    rows[7, 2] = value
    with pytest.raises(ValueError, match="embeddings must be finite, but row 7 has"):
        find(form(rows), 0.5)


@pytest.mark.parametrize("find", BOTH)
def test_other_shapes_are_refused(find: Any) -> None:
    with pytest.raises(ValueError, match=re.escape("must be (rows, width), got shape (2, 3, 4)")):
        find(torch.zeros(2, 3, 4), 0.5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_the_clusters_of_the_cpu() -> None:
    rows = signs(3000, 64, groups=300)
    assert threshold_clusters(rows.cuda(), 0.75) == threshold_clusters(rows, 0.75)
    assert community_detection(rows.cuda(), 0.75, 3) == community_detection(rows, 0.75, 3)
