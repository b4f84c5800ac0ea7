"""Static vectors out of a transformer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.testing import assert_close

from sentence_transformers.modules.distillation import principal_components, sif_weights
from sentence_transformers.modules.static import StaticEmbedding
from sentence_transformers.modules.transformer import Transformer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "[unused1]", *"abcdefghijklmnop", "##a", "##b", "cat", "dog"]
RAW: dict[str, Any] = {"pca_dims": None, "apply_zipf": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A small random BERT."""
    transformers = pytest.importorskip("transformers")
    path: Path = tmp_path_factory.mktemp("bert")
    made = Tokenizer(models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    names = dict(zip(["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"], SPECIAL, strict=True))
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=32, **names).save_pretrained(path)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=32,
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(path)
    yield str(path)


@pytest.fixture(scope="module")
def transformer(folder: str) -> Transformer:
    return Transformer(folder).eval()


def row(module: StaticEmbedding, token: str) -> torch.Tensor:
    return module.embedding.weight.detach()[module.tokenizer.token_to_id(token)]


def mean_of(transformer: Transformer, text: str) -> torch.Tensor:
    with torch.no_grad():
        features = transformer(transformer.preprocess([text]))
    vectors: torch.Tensor = features["token_embeddings"]
    return vectors[0].mean(0)


def test_a_token_gets_the_mean_over_itself_and_its_special_tokens(transformer: Transformer) -> None:
    module = StaticEmbedding.from_distillation(transformer, **RAW)
    for token in ("a", "cat"):
        assert_close(row(module, token), mean_of(transformer, token), atol=1e-6, rtol=0)


def test_a_name_and_a_transformer_give_the_same(folder: str, transformer: Transformer) -> None:
    named = StaticEmbedding.from_distillation(folder, pca_dims=4)
    given = StaticEmbedding.from_distillation(transformer, pca_dims=4)
    assert torch.equal(named.embedding.weight, given.embedding.weight)
    assert named.get_embedding_dimension() == 4


def test_tokens_that_no_text_has_get_no_vector(transformer: Transformer) -> None:
    module = StaticEmbedding.from_distillation(transformer, **RAW)
    zero = [token for token in WORDS if not row(module, token).any()]
    assert zero == ["[CLS]", "[SEP]", "[MASK]", "[unused1]"]


def test_no_pattern_keeps_all_tokens(transformer: Transformer) -> None:
    module = StaticEmbedding.from_distillation(transformer, token_remove_pattern=None, **RAW)
    assert row(module, "[unused1]").any()


def test_words_and_phrases_of_a_vocabulary_become_tokens(transformer: Transformer) -> None:
    module = StaticEmbedding.from_distillation(transformer, ["fog", "cat dog", "cat"], **RAW)
    features = module.preprocess(["the FOG cat dog fog fogs cat"])
    tokens = [module.tokenizer.id_to_token(number) for number in features["input_ids"].tolist()]
    assert tokens == ["[UNK]", "fog", "cat dog", "fog", "[UNK]", "cat"]
    assert_close(row(module, "cat dog"), mean_of(transformer, "cat dog"), atol=1e-6, rtol=0)


def test_without_subwords_all_else_is_zero(transformer: Transformer) -> None:
    module = StaticEmbedding.from_distillation(transformer, ["cat", "cat dog"], use_subword=False, **RAW)
    features = module.preprocess(["Cat dog a cat"])
    tokens = [module.tokenizer.id_to_token(number) for number in features["input_ids"].tolist()]
    assert tokens == ["cat dog", "[UNK]", "cat"]
    assert not row(module, "[UNK]").any()


def test_later_tokens_weigh_more(transformer: Transformer) -> None:
    plain = StaticEmbedding.from_distillation(transformer, **RAW)
    weighted = StaticEmbedding.from_distillation(transformer, pca_dims=None, sif_coefficient=0.01)
    ratio = (weighted.embedding.weight / plain.embedding.weight)[:, 0].detach()
    kept = [number for number, token in enumerate(WORDS) if row(plain, token).any()]
    assert_close(ratio[kept], sif_weights(len(kept), 0.01).float(), atol=1e-5, rtol=0)


def test_the_type_of_the_vectors_can_be_chosen(transformer: Transformer) -> None:
    assert StaticEmbedding.from_distillation(transformer, quantize_to="float16").embedding.weight.dtype == torch.float16
    with pytest.raises(ValueError, match="quantize_to must be one of"):
        StaticEmbedding.from_distillation(transformer, quantize_to="int8")


def test_words_are_needed_where_subwords_are_off(transformer: Transformer) -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        StaticEmbedding.from_distillation(transformer, use_subword=False)


def test_only_a_transformer_can_be_distilled() -> None:
    with pytest.raises(ValueError, match="first part"):
        StaticEmbedding.from_distillation(torch.nn.Linear(2, 2))


def test_the_transformer_keeps_its_mode(transformer: Transformer) -> None:
    for training in (True, False):
        transformer.train(training)
        StaticEmbedding.from_distillation(transformer, pca_dims=4)
        assert transformer.training is training


def test_principal_components_equal_the_singular_values_formula() -> None:
    vectors = torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    centred = vectors - vectors.mean(0)
    _, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
    out = principal_components(vectors, 3)
    assert_close(out.abs(), (centred @ directions[:3].T).abs())
    assert_close(out.norm(dim=0), sizes[:3])


def test_each_component_points_to_its_largest_coordinate() -> None:
    vectors = torch.tensor([[-2.0, 0.1], [2.0, -0.1], [0.0, 0.0]], dtype=torch.float64)
    assert principal_components(vectors, 1)[0, 0] < 0


def test_components_are_left_out_where_tokens_are_too_few(caplog: pytest.LogCaptureFixture) -> None:
    vectors = torch.ones(3, 8, dtype=torch.float64)
    assert torch.equal(principal_components(vectors, 4), vectors)
    assert "only 3 tokens" in caplog.text


def test_sif_weights_equal_the_hand_values() -> None:
    # inverse ranks 1/2 and 1/3: probabilities 0.6 and 0.4
    assert_close(sif_weights(2, 0.1), torch.tensor([0.1 / 0.7, 0.1 / 0.5], dtype=torch.float64))
