"""8 bits: a layer against a slow one in float64, every kernel, every family, and what is reported."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_heads
import torch
from torch import Tensor

from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.backend.native import int8
from sentence_transformers.backend.native.families import FAMILIES
from sentence_transformers.backend.native.int8_kernels import KERNELS, is_right
from sentence_transformers.backend.native.weights import Linear

TinyFolder = Callable[[str], Path]

HERE = [name for name, kernel in KERNELS.items() if kernel.is_there() and is_right(kernel)]
INT8 = {"quantize": "int8"}
TEXTS = ["a dog", "two dogs and a cat sleep in the sun", "rain", "the train to the coast is late again today", "a"]


def layer(rows: int = 24, width: int = 32, bias: bool = True) -> Linear:
    made = torch.Generator().manual_seed(rows * width)
    weight = torch.randn(rows, width, generator=made) * torch.logspace(-2, 0, rows)[:, None]
    return Linear(weight, torch.randn(rows, generator=made) if bias else None)


def slowly(x: Tensor, exact: Linear, floor: float | None, largest: float) -> Tensor:
    """The formula, in float64, one product at a time."""
    out = torch.zeros(len(x), len(exact.weight), dtype=torch.float64)
    for o, row in enumerate(exact.weight.double()):
        scale = row.abs().max() / largest
        weights = [round(float(w / scale)) for w in row]
        for n, values in enumerate(x.double()):
            low = 0.0 if floor is None else floor
            step = float(values.abs().max()) / 127 if floor is None else float(values.max() - low) / 255
            whole = [int(np.floor((float(v) - low) / step + 0.5)) for v in values]
            total = sum(w * q for w, q in zip(weights, whole, strict=True))
            out[n, o] = scale * (step * total + low * sum(weights))
    return out if exact.bias is None else out + exact.bias.double()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("floor", [None, -0.17, 0.0])
@pytest.mark.parametrize("name", HERE)
def test_a_layer_is_the_formula(name: str, floor: float | None, bias: bool) -> None:
    x = torch.randn(7, 32, generator=torch.Generator().manual_seed(1))
    x = x * torch.logspace(-3, 2, 7)[:, None]  # rows of all sizes: each has a scale of its own
    if floor is not None:
        x = x.abs() + floor
    exact = layer(bias=bias)
    rounded = int8.Int8Linear.of(exact, floor, name)
    wanted = slowly(x, exact, floor, KERNELS[name].largest)
    # a value in the middle of two whole numbers may go either way, and FBGEMM rounds by a scale of its own
    step = (x.abs().amax(1) * exact.weight.abs().amax()).double() / 127
    steps = 12.0 if name == "FBGEMM" else 1.5
    assert ((rounded(x).double() - wanted).abs().amax(1) <= steps * step + 1e-6).all()
    residual = torch.ones(7, 24)
    torch.testing.assert_close(rounded.add_to_(residual, x), rounded(x) + 1, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", HERE)
def test_close_to_the_layer_before(name: str) -> None:
    exact, x = layer(64, 256), torch.randn(50, 256, generator=torch.Generator().manual_seed(2))
    wanted = torch.nn.functional.linear(x, exact.weight, exact.bias)
    error = (int8.Int8Linear.of(exact, kernel=name)(x) - wanted).norm() / wanted.norm()
    assert 0 < error < 0.025


@pytest.mark.parametrize("name", HERE)
def test_a_layer_reads_and_gives_bfloat16_where_it_is_to(name: str) -> None:
    exact, x = layer(64, 256), torch.randn(50, 256, generator=torch.Generator().manual_seed(2)).bfloat16()
    wanted = int8.Int8Linear.of(exact, kernel=name)(x.float())
    found = int8.Int8Linear.of(exact, kernel=name, dtype=torch.bfloat16)(x)
    assert found.dtype is torch.bfloat16
    assert ((found.float() - wanted).abs() <= 0.02 * wanted.abs() + 0.01 * exact.weight.abs().amax()).all()


@pytest.mark.parametrize("name", HERE)
def test_a_row_does_not_depend_on_the_others(name: str) -> None:
    rounded = int8.Int8Linear.of(layer(), kernel=name)
    x = torch.randn(9, 32, generator=torch.Generator().manual_seed(3)) * torch.logspace(-2, 3, 9)[:, None]
    alone = torch.cat([rounded(row[None]) for row in x])
    torch.testing.assert_close(alone, rounded(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", HERE)
def test_rows_of_zeros_and_no_rows(name: str) -> None:
    exact = layer()
    rounded = int8.Int8Linear.of(exact, kernel=name)
    assert exact.bias is not None
    torch.testing.assert_close(rounded(torch.zeros(2, 32)), exact.bias.expand(2, -1))
    assert rounded(torch.zeros(0, 32)).shape == (0, 24)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("floor", [None, -0.17])
def test_a_nan_stays_one(name: str, floor: float | None) -> None:
    x = torch.zeros(2, 32)
    x[0, 3] = float("nan")
    found = int8.Int8Linear.of(layer(), floor, name)(x)
    assert found[0].isnan().all()
    assert not found[1].isnan().any()


@pytest.mark.parametrize("name", HERE)
def test_a_copy_computes_the_same(name: str) -> None:
    rounded = int8.Int8Linear.of(layer(), -0.17, name)
    x = torch.rand(3, 32)
    for other in (copy.deepcopy(rounded), pickle.loads(pickle.dumps(rounded))):
        assert torch.equal(other(x), rounded(x))


def test_a_table_gives_its_rows() -> None:
    table = torch.randn(5000, 8, generator=torch.Generator().manual_seed(4))  # more than one block
    table[3] = 0
    ids = torch.tensor([0, 3, 4999, 4096, 0])
    found = int8.Int8Table.of(table)[ids]
    assert ((found - table[ids]).abs().amax(1) <= table[ids].abs().amax(1) / 254 + 1e-7).all()


def test_a_kernel_that_overflows_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Overflowing:
        name, dtype, zeros, largest = "16 bits", torch.float32, (0, 0), 127.0

        def is_there(self) -> bool:
            return True

        def pack(self, rounded: Tensor, scales: Tensor) -> Tensor:
            return rounded.double()

        def unpack(self, packed: Tensor) -> Tensor:
            return packed

        def multiply(self, rows: Tensor, packed: Tensor, scales: Tensor, signed: bool, dtype: torch.dtype) -> Tensor:
            pairs = (rows.double()[:, None, 0::2] * packed[None, :, 0::2]) + (
                rows.double()[:, None, 1::2] * packed[None, :, 1::2]
            )
            return pairs.clamp(-(2**15), 2**15 - 1).sum(-1).float() * scales

    assert not is_right(Overflowing())
    monkeypatch.setattr(int8, "KERNELS", {"16 bits": Overflowing()})
    with pytest.raises(ValueError, match="No 8-bit kernel"):
        int8.choose.__wrapped__()


# --- whole models ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", sorted(set(tiny.FAMILIES) & set(FAMILIES)))
def test_every_family(family: str, tiny_folder: TinyFolder) -> None:
    exact = SentenceTransformer(str(tiny_folder(family)), device="cpu").encode(TEXTS, normalize_embeddings=True)
    model = SentenceTransformer(str(tiny_folder(family)), device="cpu", model_kwargs=INT8)
    found = model.encode(TEXTS, normalize_embeddings=True)
    assert ((exact * found).sum(1) > 0.99).all()
    assert not np.array_equal(exact, found)
    np.testing.assert_allclose(np.stack([model.encode(t, normalize_embeddings=True) for t in TEXTS]), found, atol=2e-6)


def test_the_report_says_what_was_chosen_and_what_it_cost(tiny_folder: TinyFolder, caplog: Any) -> None:
    with caplog.at_level(logging.INFO, "sentence_transformers"):
        model = SentenceTransformer(str(tiny_folder("bert")), device="cpu", model_kwargs=INT8)
    report = model.quantization
    assert report is not None
    assert report.network.kernel == int8.choose().kernel
    assert report.network.bytes < report.network.bytes_before
    assert report.quality.texts > 200
    assert report.quality.cosine is not None and report.quality.worst is not None
    assert 0.9 < report.quality.worst <= report.quality.cosine <= 1
    assert str(report) in caplog.text
    assert SentenceTransformer(str(tiny_folder("bert")), device="cpu").quantization is None


def test_minilm_in_8_bits_is_a_quarter_of_the_size(minilm_folder: Path) -> None:
    report = SentenceTransformer(str(minilm_folder), device="cpu", model_kwargs=INT8).quantization
    assert report is not None and report.quality.cosine is not None
    assert report.network.bytes < 0.27 * report.network.bytes_before
    assert report.quality.cosine > 0.995
    assert report.quality.order > 0.99


def test_a_reranker(tmp_path: Path) -> None:
    folder = str(tiny_heads.build_classifier("bert", tmp_path / "reranker"))
    pairs = list(zip(TEXTS, reversed(TEXTS), strict=True))
    model = CrossEncoder(folder, device="cpu", model_kwargs=INT8)
    assert model.quantization is not None and model.quantization.quality.cosine is None
    exact = CrossEncoder(folder, device="cpu").predict(pairs)
    found = model.predict(pairs)
    np.testing.assert_allclose(found, exact, atol=0.02)
    assert not np.array_equal(found, exact)


def test_a_sparse_encoder(tmp_path: Path) -> None:
    folder = str(tiny_heads.build_splade(tmp_path / "splade", "max", "relu"))
    model = SparseEncoder(folder, device="cpu", model_kwargs=INT8)
    assert model.quantization is not None
    exact = SparseEncoder(folder, device="cpu").encode(TEXTS).to_dense()
    assert (torch.cosine_similarity(model.encode(TEXTS).to_dense(), exact) > 0.99).all()


def test_training_goes_on_in_float32(tiny_folder: TinyFolder, caplog: Any) -> None:
    model = SentenceTransformer(str(tiny_folder("bert")), device="cpu", model_kwargs=INT8)
    exact = SentenceTransformer(str(tiny_folder("bert")), device="cpu").encode(TEXTS)
    assert sum(p.numel() for p in model.parameters()) > 0
    assert "not in int8" in caplog.text
    np.testing.assert_allclose(model.encode(TEXTS), exact, atol=1e-5)


def test_saved_in_full(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    SentenceTransformer(str(tiny_folder("bert")), device="cpu", model_kwargs=INT8).save(tmp_path)
    exact = SentenceTransformer(str(tiny_folder("bert")), device="cpu").encode(TEXTS)
    assert np.array_equal(SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS), exact)


def test_pickled_and_copied(tiny_folder: TinyFolder) -> None:
    model = SentenceTransformer(str(tiny_folder("bert")), device="cpu", model_kwargs=INT8)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(other.encode(TEXTS), model.encode(TEXTS))
        assert str(other.quantization) == str(model.quantization)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantize": "int4"}, r"model_kwargs\['quantize'\] must be one of None, 'int8'; got 'int4'"),
        ({"quantize": "int8", "dtype": "float16"}, "computes in float32; got dtype='float16'"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str, tiny_folder: TinyFolder) -> None:
    with pytest.raises(ValueError, match=message):
        SentenceTransformer(str(tiny_folder("bert")), device="cpu", model_kwargs=settings)


def test_a_network_outside_the_table(tiny_folder: TinyFolder) -> None:
    with pytest.raises(ValueError, match="networks of the native engine.*albert"):
        SentenceTransformer(str(tiny_folder("albert")), device="cpu", model_kwargs=INT8)


def test_no_half_precision_and_no_other_device(tiny_folder: TinyFolder) -> None:
    model = SentenceTransformer(str(tiny_folder("bert")), device="cpu", model_kwargs=INT8)
    with pytest.raises(ValueError, match="in float32 on the CPU, not in float16"):
        model.half()


def test_a_model_without_a_transformer() -> None:
    from sentence_transformers.sentence_transformer.modules import BoW

    with pytest.raises(ValueError, match="models with a transformer"):
        SentenceTransformer(modules=[BoW(["a"])], model_kwargs=INT8)
