"""SparseEncoder.encode: the forms of its result, how many values are kept, and how much is held at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_heads as heads
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sentence_transformers import SparseEncoder
from sentence_transformers.backend.native import network
from sentence_transformers.inference.collect import SparseRows
from sentence_transformers.modules.splade import SpladePooling
from sentence_transformers.ops.projected import BLOCK_ELEMENTS
from tests.unit.encoders.folders import TEXTS, read_json

WORDS = 30522
"""The vocabulary of BERT."""


@pytest.fixture(scope="module")
def splade_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare masked BERT; don't write."""
    return heads.build_masked("bert", tmp_path_factory.mktemp("masked"))


@pytest.fixture(scope="module")
def splade(splade_folder: Path) -> SparseEncoder:
    """Shared by all tests; don't change it."""
    return SparseEncoder(str(splade_folder), device="cpu")


@pytest.fixture
def changeable(splade_folder: Path) -> SparseEncoder:
    """A model of the test's own."""
    return SparseEncoder(str(splade_folder), device="cpu")


@pytest.fixture(scope="module")
def csr_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BERT with an autoencoder that keeps 8 of 64; don't write."""
    return heads.build_csr(tmp_path_factory.mktemp("csr"))


@pytest.fixture(scope="module")
def csr(csr_folder: Path) -> SparseEncoder:
    """Shared by all tests; don't change it."""
    return SparseEncoder(str(csr_folder), device="cpu")


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> SparseEncoder:
    """Queries look their weights up, documents go through the masked BERT; don't change it."""
    return SparseEncoder(str(heads.build_inference_free(tmp_path_factory.mktemp("routed"))), device="cpu")


# --- forms of the result


def test_a_batch_is_one_coalesced_tensor(splade: SparseEncoder) -> None:
    found = splade.encode(TEXTS)
    assert (found.layout, found.is_coalesced()) == (torch.sparse_coo, True)
    assert bool((found.values() > 0).all())  # no zero is stored


def test_a_single_input_is_one_coalesced_vector(splade: SparseEncoder) -> None:
    found = splade.encode(TEXTS[0])
    assert (found.layout, found.is_coalesced(), found.dim()) == (torch.sparse_coo, True, 1)
    assert bool((found.values() > 0).all())


def test_every_form_has_the_same_numbers(splade: SparseEncoder) -> None:
    whole = splade.encode(TEXTS).to_dense()
    assert torch.equal(splade.encode(TEXTS, convert_to_sparse_tensor=False), whole)
    vectors = splade.encode(TEXTS, convert_to_tensor=False)
    assert all(vector.is_coalesced() for vector in vectors)
    assert torch.equal(torch.stack([vector.to_dense() for vector in vectors]), whole)
    dense = splade.encode(TEXTS, convert_to_tensor=False, convert_to_sparse_tensor=False)
    assert torch.equal(torch.stack(dense), whole)


def test_a_single_input_is_a_vector_in_every_form(splade: SparseEncoder) -> None:
    for stacked in (True, False):
        sparse = splade.encode(TEXTS[0], convert_to_tensor=stacked)
        dense = splade.encode(TEXTS[0], convert_to_tensor=stacked, convert_to_sparse_tensor=False)
        assert torch.equal(sparse.to_dense(), dense)


def test_looked_up_queries_can_be_dense(routed: SparseEncoder) -> None:
    """Their vectors are sparse already when they come out of the modules, or not; nobody should see which."""
    dense = routed.encode_query(TEXTS, convert_to_sparse_tensor=False)
    assert torch.equal(dense, routed.encode_query(TEXTS).to_dense())
    assert dense.count_nonzero() > 0


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("sparse", [True, False])
def test_results_can_be_trained_with(stacked: bool, sparse: bool, splade: SparseEncoder) -> None:
    """They are ordinary tensors, not tensors of inference mode."""
    found = splade.encode(TEXTS, convert_to_tensor=stacked, convert_to_sparse_tensor=sparse)
    for tensor in [found] if stacked else found:
        wanted = tensor.clone().requires_grad_()
        (wanted * 2).sum().backward()
        assert not tensor.is_inference()
        assert wanted.grad is not None


def test_rows_of_a_list_are_apart_from_one_another(splade: SparseEncoder) -> None:
    one, same = splade.encode([TEXTS[0], TEXTS[0]], convert_to_tensor=False)
    before = same.to_dense()
    one.values().zero_()
    assert torch.equal(same.to_dense(), before)
    assert before.count_nonzero() > 0


def test_saving_to_the_cpu_changes_no_number(splade: SparseEncoder) -> None:
    found = splade.encode(TEXTS, save_to_cpu=True)
    assert found.device.type == "cpu"
    assert torch.equal(found.to_dense(), splade.encode(TEXTS).to_dense())


@pytest.mark.parametrize("sparse", [True, False])
def test_no_inputs_keep_the_width(sparse: bool, changeable: SparseEncoder, csr: SparseEncoder) -> None:
    """Known from the config, before the first batch."""
    empty = changeable.encode([], convert_to_sparse_tensor=sparse)
    assert (empty.shape, empty.is_sparse) == ((0, changeable[0].pretrained.config["vocab_size"]), sparse)
    assert csr.encode([], convert_to_sparse_tensor=sparse).shape == (0, 64)


def test_no_inputs_keep_the_width_of_a_model_with_routes(tmp_path: Path) -> None:
    model = SparseEncoder(str(heads.build_inference_free(tmp_path)), device="cpu")
    words = len(model.tokenizer)
    assert (model.get_embedding_dimension(), model.encode([]).shape) == (words, (0, words))


def test_no_inputs_stack_with_some(splade: SparseEncoder) -> None:
    some = splade.encode(TEXTS)
    assert torch.equal(torch.cat([splade.encode([]), some]).to_dense(), some.to_dense())


@pytest.mark.parametrize("options", [{"pool": {}}, {"device": ["cpu", "cpu"]}])
def test_several_processes_are_refused_in_words(options: dict[str, Any], splade: SparseEncoder) -> None:
    with pytest.raises(NotImplementedError, match="not part of this version"):
        splade.encode(TEXTS, **options)


@pytest.mark.parametrize("sparse", [True, False])
def test_inputs_that_are_cut_may_be_an_error(sparse: bool, splade: SparseEncoder) -> None:
    with pytest.raises(ValueError, match="1 of 2 inputs are longer than max_seq_length = 64"):
        splade.encode(["a", "cat " * 99], on_truncate="error", convert_to_sparse_tensor=sparse)


# --- how many values are kept


@pytest.mark.parametrize("sparse", [True, False])
def test_only_the_largest_values_are_kept(sparse: bool, splade: SparseEncoder) -> None:
    whole = splade.encode(TEXTS).to_dense()
    found = splade.encode(TEXTS, max_active_dims=3, convert_to_sparse_tensor=sparse).to_dense()
    for kept, row in zip(found, whole, strict=True):
        assert kept.count_nonzero() == 3 < row.count_nonzero()
        assert sorted(kept[kept > 0].tolist()) == row.sort().values[-3:].tolist()
        assert torch.equal(kept[kept > 0], row[kept > 0])


def test_the_number_of_the_call_wins_over_that_of_the_model(splade_folder: Path) -> None:
    model = SparseEncoder(str(splade_folder), device="cpu", max_active_dims=5)
    assert model.encode(TEXTS[0]).values().numel() == 5
    assert model.encode(TEXTS[0], max_active_dims=2).values().numel() == 2
    assert model.max_active_dims == 5


def test_the_number_can_be_set_and_taken_back(changeable: SparseEncoder) -> None:
    count = changeable.encode(TEXTS[0]).values().numel()
    changeable.max_active_dims = 4
    assert changeable.encode(TEXTS[0]).values().numel() == 4
    changeable.max_active_dims = None
    assert changeable.encode(TEXTS[0]).values().numel() == count > 4


@pytest.mark.parametrize("wrong", [0, -1, True, 2.5, "3"])
def test_a_number_that_cannot_be_is_not_set(wrong: Any, changeable: SparseEncoder) -> None:
    with pytest.raises(ValueError, match="max_active_dims must be a positive integer, got"):
        changeable.max_active_dims = wrong
    assert changeable.max_active_dims is None


def test_the_number_is_saved_where_it_was_set(changeable: SparseEncoder, tmp_path: Path) -> None:
    changeable.save(str(tmp_path / "without"))
    assert "max_active_dims" not in read_json(tmp_path / "without" / "config_sentence_transformers.json")
    changeable.max_active_dims = 4
    changeable.save(str(tmp_path / "with"))
    assert SparseEncoder(str(tmp_path / "with"), device="cpu").max_active_dims == 4
    assert SparseEncoder(str(tmp_path / "with"), device="cpu", max_active_dims=2).max_active_dims == 2


def test_an_autoencoder_says_how_many_values_it_keeps(csr_folder: Path) -> None:
    model = SparseEncoder(str(csr_folder), device="cpu")
    assert model.max_active_dims == model[-1].k == 8
    model.max_active_dims = 3
    assert model.max_active_dims == 3
    model.max_active_dims = None
    assert model.max_active_dims == 8


def test_an_autoencoder_is_asked_for_more_values_than_it_keeps_by_itself(csr: SparseEncoder) -> None:
    """The number reaches the module: what it computes is not cut to 8 first."""
    few, many = csr.encode(TEXTS), csr.encode(TEXTS, max_active_dims=20)
    assert few.values().numel() <= 8 * len(TEXTS) < many.values().numel() <= 20 * len(TEXTS)
    assert set(zip(*few.indices().tolist(), strict=True)) <= set(zip(*many.indices().tolist(), strict=True))


# --- what is held at once


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> SparseEncoder:
    """The masked BERT with a vocabulary of full size, of which few words get a weight."""

    def rare(model: torch.nn.Module) -> None:
        model.get_output_embeddings().bias.data.sub_(8)

    folder = tmp_path_factory.mktemp("wide")
    tiny.build("bert", folder, model_class="BertForMaskedLM", settings={"vocab_size": WORDS}, adjust=rare)
    return SparseEncoder(str(folder), device="cpu")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Everything is computed in the calling thread, where it can be watched."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor has that any operation gives; of a sparse one, what it stores."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for item in out if isinstance(out, (list, tuple)) else (out,):
            if isinstance(item, Tensor) and item.layout == torch.strided:
                self.numbers = max(self.numbers, item.numel())
        return out


CORPUS = [f"{first} {second}" for first in ("the cat", "a dog", "long rivers", "sea") for second in range(50)]


def test_the_result_never_is_a_dense_matrix(wide: SparseEncoder, one_thread: None) -> None:
    with Largest() as seen:
        found = wide.encode(CORPUS, batch_size=8)
    assert found.shape == (len(CORPUS), WORDS)
    stored = found.values().numel()
    assert 0 < stored < BLOCK_ELEMENTS
    assert seen.numbers <= max(BLOCK_ELEMENTS, 8 * WORDS, 2 * stored) < found.numel() / 4


def test_a_list_of_results_never_is_a_dense_matrix(wide: SparseEncoder, one_thread: None) -> None:
    with Largest() as seen:
        found = wide.encode(CORPUS, batch_size=8, convert_to_tensor=False)
    assert len(found) == len(CORPUS)
    assert seen.numbers <= max(BLOCK_ELEMENTS, 8 * WORDS) < len(CORPUS) * WORDS / 4


def test_the_collector_gets_one_batch_at_a_time(splade: SparseEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    put, sizes = SparseRows.put, list[tuple[int, ...]]()

    def watched(self: SparseRows, places: Any, rows: Tensor) -> None:
        sizes.append(tuple(rows.shape))
        put(self, places, rows)

    monkeypatch.setattr(SparseRows, "put", watched)
    width = splade.encode(CORPUS, batch_size=8).shape[1]
    assert sum(rows for rows, _ in sizes) == len(CORPUS)
    assert max(rows for rows, _ in sizes) <= 8
    assert {columns for _, columns in sizes} == {width}


@pytest.mark.parametrize("strategy", ["max", "sum"])
def test_the_products_with_the_vocabulary_come_in_blocks(
    strategy: str, wide: SparseEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "is_worthwhile", lambda: False)  # the look in bfloat16 computes less
    model = SparseEncoder(modules=[wide[0], SpladePooling(strategy)], device="cpu")
    linear, made = torch.nn.functional.linear, list[Tensor]()

    def watched(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        made.append(linear(x, weight, bias))
        return made[-1]

    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    # 32 different inputs of 64 tokens, 2,048 in all
    found = model.encode([f"{number} " + "cat sat on the mat " * 20 for number in range(32)], on_truncate="ignore")
    assert found.shape == (32, WORDS)
    products = [block for block in made if block.shape[-1] not in (32, 48, 96)]  # not of the layers
    assert sum(block.numel() for block in products) == 32 * 64 * WORDS
    assert max(block.numel() for block in products) <= BLOCK_ELEMENTS


def test_no_block_is_larger_where_the_vocabulary_is_looked_at_first(
    wide: SparseEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "is_worthwhile", lambda: False)
    plain = wide.encode(CORPUS[:8])
    monkeypatch.setattr(network, "is_worthwhile", lambda: True)
    linear, made = torch.nn.functional.linear, list[Tensor]()

    def watched(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        made.append(linear(x, weight, bias))
        return made[-1]

    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    found = wide.encode(CORPUS[:8])
    assert any(block.dtype is torch.bfloat16 for block in made)
    assert max(block.numel() for block in made) <= BLOCK_ELEMENTS
    torch.testing.assert_close(found.to_dense(), plain.to_dense(), rtol=0, atol=1e-5)


def test_blocks_give_the_weights_of_all_products_at_once(wide: SparseEncoder) -> None:
    whole = wide[0].preprocess(CORPUS[:3])
    with torch.inference_mode():
        logits = wide[0](dict(whole))["token_embeddings"].masked_fill(whole["attention_mask"][..., None] == 0, 0)
    slow = torch.log1p(torch.relu(logits.double())).amax(1)
    torch.testing.assert_close(wide.encode(CORPUS[:3]).to_dense().double(), slow, rtol=1e-5, atol=1e-6)


# --- SpladePooling from outside


def test_the_chunk_size_is_that_of_the_pooling(changeable: SparseEncoder) -> None:
    assert changeable.splade_pooling_chunk_size is None
    changeable.splade_pooling_chunk_size = 7
    assert changeable[1].chunk_size == changeable.splade_pooling_chunk_size == 7
    changeable.splade_pooling_chunk_size = None
    assert changeable[1].chunk_size is None


def test_a_chunk_size_that_cannot_be(changeable: SparseEncoder) -> None:
    with pytest.raises(ValueError, match="splade_pooling_chunk_size must be a positive integer, got 0"):
        changeable.splade_pooling_chunk_size = 0


def test_the_chunk_size_of_a_route(routed: SparseEncoder) -> None:
    routed.splade_pooling_chunk_size = 5
    try:
        assert [part.chunk_size for part in routed.parts() if isinstance(part, SpladePooling)] == [5]
    finally:
        routed.splade_pooling_chunk_size = None


def test_a_model_without_the_pooling_has_no_chunk_size(csr: SparseEncoder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert csr.splade_pooling_chunk_size is None
        csr.splade_pooling_chunk_size = 5
    assert [record.message for record in caplog.records] == [
        "This model has no SpladePooling, so there is no chunk size.",
        "This model has no SpladePooling: the chunk size is ignored.",
    ]


def test_the_width_is_known_before_the_first_batch(changeable: SparseEncoder, csr: SparseEncoder) -> None:
    before = changeable.get_embedding_dimension()
    assert before == changeable.encode("a").shape[0] == changeable.get_embedding_dimension()
    assert csr.get_embedding_dimension() == csr[-1].hidden_dim == 64
