"""Fewer token embeddings: by clusters, by a function, in both layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from sentence_transformers.modules.token_pooling import BaseTokenPooling, HierarchicalTokenPooling, LambdaTokenPooling
from sentence_transformers.ops.tokens import Packed


def wave(rows: int, width: int = 3, speed: float = 1.0) -> Tensor:
    return torch.sin(speed * torch.arange(1, rows * width + 1, dtype=torch.float32)).view(rows, width)


def first_two(tasks: Any = None) -> LambdaTokenPooling:
    return LambdaTokenPooling(lambda embedding: embedding[:2], tasks=tasks)


def real_rows(padded: Tensor) -> list[list[int]]:
    return (padded != 0).any(-1).int().tolist()


# --- clusters

FIRST = [0.674839, 0.729235, 0.113175]
# recorded from reference 6.2.0, for unit vectors times 2
RECORDED = [
    ({"pool_factor": 2}, [FIRST, [-0.432290, -0.794582, -0.426339], [0.333657, 0.787833, 0.517679]]),
    (
        {"pool_factor": 2, "normalize_embeddings": False},
        [[1.349679, 1.458469, 0.226350], [-0.843924, -1.551197, -0.832307], [0.651311, 1.537880, 1.010529]],
    ),
    (
        {"pool_factor": 3, "num_protected_tokens": 0},
        [[-0.432290, -0.794582, -0.426339], [0.432303, 0.794582, 0.426326]],
    ),
    ({"pool_factor": 2.5}, [FIRST, [-0.432290, -0.794582, -0.426339], [0.333657, 0.787833, 0.517679]]),
    ({"pool_factor": 100}, [FIRST, [-0.733052, -0.050685, 0.678282]]),
    (
        {"pool_factor": 2, "num_protected_tokens": 3},
        [
            FIRST,
            [-0.603925, -0.765218, -0.222972],
            [0.522620, 0.787016, 0.327832],
            [-0.333985, -0.787878, -0.517399],
            [0.229261, 0.766885, 0.599439],
        ],
    ),
]


@pytest.mark.parametrize(("settings", "expected"), RECORDED)
def test_clusters_are_those_of_the_reference(settings: dict[str, Any], expected: list[list[float]]) -> None:
    pooled = HierarchicalTokenPooling(**settings).pool_one(F.normalize(wave(7), dim=-1) * 2)
    assert_close(pooled, torch.tensor(expected), atol=1e-5, rtol=0)


def test_two_pairs_of_neighbours_become_their_means() -> None:
    tokens = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0.96, 0.28], [0, 0, 1], [0.28, 0, 0.96]])
    pooled = HierarchicalTokenPooling(2, normalize_embeddings=False).pool_one(tokens)
    expected = torch.tensor([[1.0, 0, 0], [0, 0.98, 0.14], [0.14, 0, 0.98]])
    assert_close(pooled, expected)


@pytest.mark.parametrize(("tokens", "left"), [(0, 0), (1, 1), (2, 2), (3, 2), (4, 2), (5, 3)])
def test_the_first_token_is_kept_and_half_of_the_others(tokens: int, left: int) -> None:
    embedding = F.normalize(torch.randn(tokens, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    pooled = HierarchicalTokenPooling(2).pool([embedding])[0]
    assert len(pooled) == left
    assert_close(pooled[:1], embedding[:1])


def test_a_factor_of_one_only_normalizes() -> None:
    assert_close(HierarchicalTokenPooling().pool_one(wave(4)), F.normalize(wave(4), dim=-1))
    assert torch.equal(HierarchicalTokenPooling(normalize_embeddings=False).pool_one(wave(4)), wave(4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_stays(dtype: torch.dtype) -> None:
    pooled = HierarchicalTokenPooling(2).pool_one(wave(7).to(dtype))
    assert pooled.dtype == dtype
    assert_close(pooled.float(), HierarchicalTokenPooling(2).pool_one(wave(7)), atol=1e-2, rtol=0)


def test_gradients_reach_all_members_of_a_cluster() -> None:
    tokens = wave(7).requires_grad_()
    HierarchicalTokenPooling(3, normalize_embeddings=False).pool_one(tokens).sum().backward()
    assert bool((tokens.grad > 0).all())


@pytest.mark.parametrize("factor", [0.5, 0, -1, float("nan")])
def test_a_factor_below_one_is_an_error(factor: float) -> None:
    with pytest.raises(ValueError, match="pool_factor must be >= 1, got"):
        HierarchicalTokenPooling(factor)


def test_a_negative_number_of_protected_tokens_is_an_error() -> None:
    with pytest.raises(ValueError, match="num_protected_tokens must be >= 0, got -1"):
        HierarchicalTokenPooling(num_protected_tokens=-1)


def test_it_is_saved_under_the_keys_of_the_reference_and_loads_again(tmp_path: Path) -> None:
    HierarchicalTokenPooling(2, tasks=["query", "document"]).save(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {
        "pool_factor": 2,
        "num_protected_tokens": 1,
        "normalize_embeddings": True,
        "tasks": ["query", "document"],
    }
    assert HierarchicalTokenPooling.load(str(tmp_path)).get_config_dict() == config


def test_a_config_from_before_normalization_does_not_normalize(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"pool_factor": 2, "num_protected_tokens": 1}')
    assert not HierarchicalTokenPooling.load(str(tmp_path)).normalize_embeddings


# --- pool()


def test_a_list_gives_a_list() -> None:
    pooled = first_two().pool([wave(5), wave(1), wave(0)])
    assert [tuple(item.shape) for item in pooled] == [(2, 3), (1, 3), (0, 3)]
    assert first_two().pool([]) == []


def test_arrays_become_tensors() -> None:
    assert torch.equal(first_two().pool([wave(5).numpy()])[0], wave(2))


def test_a_padded_tensor_gives_one_that_is_as_wide_as_need_be() -> None:
    padded = torch.stack([wave(6), wave(6, speed=2)])
    padded[0, 1:] = 0  # rows of zeros are padding
    pooled = first_two().pool(padded)
    assert real_rows(pooled) == [[1, 0], [1, 1]]


def test_a_mask_says_which_tokens_count() -> None:
    mask = torch.tensor([[0, 0, 1, 0, 1, 1], [1, 1, 1, 1, 1, 1]])
    padded = torch.stack([wave(6), wave(6)])
    assert_close(first_two().pool(padded, attention_mask=mask), torch.stack([wave(6)[[2, 4]], wave(2)]))


def test_padding_may_stand_on_the_left() -> None:
    mask = torch.tensor([[1, 0, 0], [1, 1, 1]])
    pooled = first_two().pool(torch.stack([wave(3), wave(3)]), attention_mask=mask, padding_side="left")
    assert_close(pooled, torch.stack([torch.cat([torch.zeros(1, 3), wave(1)]), wave(2)]))


@pytest.mark.parametrize(
    ("tasks", "applies"),
    [
        (None, [None, "document"]),
        ("query", ["query"]),
        ([], []),
        (["query", "document"], [None, "query", "document"]),
    ],
)
def test_only_inputs_of_its_tasks_are_pooled(tasks: Any, applies: list[str | None]) -> None:
    pooling = first_two(tasks)
    assert [task for task in (None, "query", "document", "other") if pooling.applies_to(task)] == applies
    for task in (None, "query", "document"):
        assert len(pooling.pool([wave(5)], task=task)[0]) == (2 if task in applies else 5)


@pytest.mark.parametrize(
    ("embeddings", "settings", "message"),
    [
        (torch.ones(5, 3), {}, r"Tensor input must be 3D \(B, T, D\); got shape \(5, 3\)"),
        ([torch.ones(3)], {}, r"list entries must be 2D tensors; got shape \(3,\)"),
        (torch.ones(1, 5, 3), {"padding_side": "up"}, "padding_side must be"),
    ],
)
def test_other_inputs_are_an_error(embeddings: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        first_two().pool(embeddings, **settings)


def test_a_rule_that_returns_another_shape_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"must return \(tokens, 3\); got the shape \(3,\)"):
        LambdaTokenPooling(lambda embedding: embedding[0]).pool([wave(5)])


# --- forward()


def test_packed_embeddings_stay_packed() -> None:
    out = first_two()({"token_embeddings": Packed(wave(8), (5, 1, 0, 2))})["token_embeddings"]
    assert out.lengths == (2, 1, 0, 2)
    assert torch.equal(out.values, wave(8)[[0, 1, 5, 6, 7]])


def test_padded_embeddings_get_a_new_mask() -> None:
    mask = torch.tensor([[0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    features = {"token_embeddings": torch.stack([wave(4)] * 3), "attention_mask": mask}
    out = first_two()(features, task="document")
    assert out["attention_mask"].tolist() == [[True, False], [True, True], [False, False]]
    assert_close(out["token_embeddings"][0], torch.stack([wave(4)[3], torch.zeros(3)]))
    assert_close(out["token_embeddings"][1], wave(2))


def test_both_layouts_give_the_same() -> None:
    pooling = HierarchicalTokenPooling(2)
    packed = Packed(wave(11), (7, 4))
    padded = packed.pad()
    out = pooling({"token_embeddings": padded.values, "attention_mask": padded.mask})
    assert_close(out["token_embeddings"], pooling({"token_embeddings": packed})["token_embeddings"].pad().values)


@pytest.mark.parametrize("features", [{"task": "query"}, {}])
def test_forward_leaves_inputs_of_other_tasks(features: dict[str, Any]) -> None:
    pooling = first_two(["query"] if not features else None)
    embeddings = Packed(wave(5), (5,))
    assert pooling({**features, "token_embeddings": embeddings})["token_embeddings"] is embeddings


def test_only_rules_known_to_keep_no_state_run_in_threads() -> None:
    assert HierarchicalTokenPooling(2).threads_safe
    assert not first_two().threads_safe


# --- LambdaTokenPooling and the base


def test_a_function_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError, match="subclass BaseTokenPooling"):
        first_two().save(str(tmp_path))


def test_a_subclass_defines_pool_one_and_is_saved(tmp_path: Path) -> None:
    class Mean(BaseTokenPooling):
        def pool_one(self, embedding: Tensor) -> Tensor:
            return embedding.mean(0, keepdim=True)

    Mean(tasks=["query"]).save(str(tmp_path))
    loaded = Mean.load(str(tmp_path))
    assert loaded.tasks == ["query"]
    assert np.allclose(loaded.pool([wave(4)], task="query")[0][0], wave(4).mean(0))
    with pytest.raises(TypeError, match="abstract"):
        BaseTokenPooling()
