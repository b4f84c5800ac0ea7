"""Parts that mix neighbouring tokens."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from sentence_transformers.modules.recurrent import CNN, LSTM
from sentence_transformers.ops.tokens import Packed, Padded

MASK = torch.tensor([[1, 1, 1], [1, 0, 0]])


def wave(*shape: int, speed: float = 1.0) -> Tensor:
    return torch.sin(speed * torch.arange(1, math.prod(shape) + 1, dtype=torch.float32)).view(shape)


def fill(part: Any) -> Any:
    with torch.no_grad():
        for speed, parameter in enumerate(part.parameters(), start=1):
            parameter.copy_(wave(*parameter.shape, speed=speed) / 2)
    return part.eval()


def padded_features() -> dict[str, Any]:
    return {
        "token_embeddings": wave(2, 3, 2) * MASK[..., None],
        "attention_mask": MASK,
        "sentence_lengths": MASK.sum(1),
    }


def packed_features() -> dict[str, Any]:
    return {"token_embeddings": Padded(wave(2, 3, 2), MASK).pack()}


PARTS: list[Any] = [
    pytest.param(lambda: LSTM(2, 2), id="lstm"),
    pytest.param(lambda: LSTM(2, 3, num_layers=2, bidirectional=False), id="lstm-deep"),
    pytest.param(lambda: CNN(2, 2), id="cnn"),
]


def test_lstm_gives_the_numbers_of_the_reference() -> None:
    out = fill(LSTM(2, 2))(padded_features())["token_embeddings"]
    # recorded from reference 6.2.0
    expected = torch.tensor(
        [
            [0.273118, -0.214463, 0.127981, -0.276979],
            [0.243015, -0.207457, 0.037151, -0.252047],
            [0.229151, -0.090682, -0.037036, -0.092375],
        ]
    )
    assert_close(out[0], expected, atol=2e-6, rtol=0)
    assert_close(out[1, 0], torch.tensor([0.253279, -0.200192, 0.079370, -0.223146]), atol=2e-6, rtol=0)
    assert torch.equal(out[1, 1:], torch.zeros(2, 4))


def test_cnn_gives_the_numbers_of_the_reference() -> None:
    out = fill(CNN(2, 1, [1, 3, 5]))(padded_features())["token_embeddings"]
    # recorded from reference 6.2.0
    expected = torch.tensor([[1.222096, 0.112945, 0.315204], [0.169944, -0.921441, -1.355937]])
    assert_close(out[0, :2], expected, atol=2e-6, rtol=0)
    assert_close(out[1, 0], torch.tensor([1.180877, -0.148504, 0.442499]), atol=2e-6, rtol=0)


@pytest.mark.parametrize("make", PARTS)
def test_packed_equals_padded(make: Any) -> None:
    part = fill(make())
    out = part(packed_features())["token_embeddings"]
    expected = Padded(part(padded_features())["token_embeddings"], MASK).pack()
    assert isinstance(out, Packed)
    assert out.lengths == expected.lengths
    assert_close(out.values, expected.values)
    assert out.values.shape[1] == part.get_embedding_dimension()


@pytest.mark.parametrize("make", PARTS)
def test_a_text_gets_the_same_result_in_any_batch(make: Any) -> None:
    part = fill(make())
    noisy = {"token_embeddings": wave(2, 3, 2) + 5 * (1 - MASK[..., None]), "attention_mask": MASK}
    alone = {"token_embeddings": noisy["token_embeddings"][1:, :1], "attention_mask": MASK[1:, :1]}
    assert_close(part(noisy)["token_embeddings"][1, :1], part(alone)["token_embeddings"][0])


@pytest.mark.parametrize("make", PARTS)
def test_texts_without_tokens_stay_empty(make: Any) -> None:
    part = fill(make())
    out = part({"token_embeddings": Packed(torch.zeros(0, 2), (0, 0))})["token_embeddings"]
    assert out.values.shape == (0, part.get_embedding_dimension())
    mixed = part({"token_embeddings": Packed(wave(2, 2), (0, 2))})["token_embeddings"]
    alone = part({"token_embeddings": Packed(wave(2, 2), (2,))})["token_embeddings"]
    assert_close(mixed.values, alone.values)


@pytest.mark.parametrize("make", PARTS)
def test_gradients_flow_through_packed_tokens(make: Any) -> None:
    part = make()
    values = wave(4, 2).requires_grad_()
    part({"token_embeddings": Packed(values, (3, 1))})["token_embeddings"].values.sum().backward()
    assert values.grad is not None and bool((values.grad.abs().sum(1) > 0).all())


@pytest.mark.parametrize("make", PARTS)
@pytest.mark.parametrize("safe", [True, False])
def test_a_part_is_the_same_after_loading(tmp_path: Path, make: Any, safe: bool) -> None:
    part = fill(make())
    part.save(str(tmp_path), safe_serialization=safe)
    loaded = type(part).load(str(tmp_path)).eval()
    assert loaded.get_config_dict() == part.get_config_dict()
    assert torch.equal(
        loaded(packed_features())["token_embeddings"].values, part(packed_features())["token_embeddings"].values
    )


def test_lstm_without_lengths_reads_the_mask_or_everything() -> None:
    lstm = fill(LSTM(2, 2))
    features = padded_features()
    del features["sentence_lengths"]
    assert_close(lstm(dict(features))["token_embeddings"], lstm(padded_features())["token_embeddings"])
    assert lstm({"token_embeddings": wave(1, 3, 2)})["token_embeddings"][0, 2].abs().sum() > 0


def test_cnn_equals_the_sliding_window() -> None:
    cnn = CNN(1, 1, [3])
    nn.init.ones_(cnn.convs[0].weight)
    nn.init.zeros_(cnn.convs[0].bias)
    out = cnn({"token_embeddings": Packed(torch.tensor([[1.0], [2.0], [4.0], [8.0]]), (3, 1))})["token_embeddings"]
    assert out.values.flatten().tolist() == [3.0, 7.0, 6.0, 8.0]


def test_cnn_thins_out_tokens_and_mask_with_its_stride() -> None:
    cnn = fill(CNN(2, 1, [1, 3], [2, 2]))
    features = padded_features()
    out = cnn(features)["token_embeddings"]
    assert out.shape == (2, 2, 2)
    assert features["attention_mask"].tolist() == [[1, 1], [1, 0]]
    packed = cnn(packed_features())["token_embeddings"]
    assert packed.lengths == (2, 1)
    assert_close(packed.values, Padded(out, features["attention_mask"]).pack().values)


@pytest.mark.parametrize("sizes, strides", [([2], None), ([], None), ([1, 3], [1, 2]), ([1, 3], [1])])
def test_cnn_refuses_kernels_that_lose_tokens(sizes: list[int], strides: list[int] | None) -> None:
    with pytest.raises(ValueError, match="must be"):
        CNN(2, 2, sizes, strides)


@pytest.mark.parametrize(
    "part, key, old", [(LSTM(2, 2), "embedding_dimension", "word_embedding_dimension"),
                       (CNN(2, 2), "in_embedding_dimension", "in_word_embedding_dimension")]
)  # fmt: skip
def test_old_keys_of_the_config_load(tmp_path: Path, part: Any, key: str, old: str) -> None:
    part.save(str(tmp_path))
    path = tmp_path / part.config_file_name
    config = json.loads(path.read_text())
    config[old] = config.pop(key)
    path.write_text(json.dumps(config))
    assert type(part).load(str(tmp_path)).get_config_dict() == part.get_config_dict()


def test_old_names_of_arguments_work() -> None:
    with pytest.warns(FutureWarning):
        assert LSTM(word_embedding_dimension=2, hidden_dim=3).embedding_dimension == 2  # type: ignore[call-arg]
    with pytest.warns(FutureWarning):
        assert CNN(in_word_embedding_dimension=2).in_embedding_dimension == 2  # type: ignore[call-arg]
