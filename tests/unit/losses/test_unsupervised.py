"""Losses without labelled data against loops written from the papers."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from losses_checking import assert_agrees, cosine, zero
from losses_pairs_facts import Given, column
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from sentence_transformers import SentenceTransformer
from sentence_transformers.losses.unsupervised import (
    ContrastiveTensionLoss,
    ContrastiveTensionLossInBatchNegatives,
    DenoisingAutoEncoderLoss,
    same_tokens,
)
from sentence_transformers.losses.unsupervised_objectives import contrastive_tension, matched_both_ways, next_tokens
from sentence_transformers.losses.wrappers import MatryoshkaLoss
from sentence_transformers.modules.linear import Dense

A, B = 0.3 * column(0), 0.3 * column(1)
SAME = torch.tensor([1, 0, 0, 1, 0, 1, 0, 0])
TENSION = [ContrastiveTensionLoss, ContrastiveTensionLossInBatchNegatives]


def with_other_copy(loss: Any) -> Any:
    """The copy adds 0.25 to embeddings, so that it matters which model embeds what."""
    with torch.no_grad():
        loss.model1.shift.fill_(0.25)
    return loss


# --- contrastive tension ---------------------------------------------------------------------------------------------


def slow_tension(a: Tensor, b: Tensor, labels: list[int]) -> Tensor:
    """Sum over pairs of -log p(label), p(1) = 1 / (1 + exp(-u.v)); the copy makes u, the model v."""
    total = zero(a)
    for u, v, label in zip(a + 0.25, b, labels, strict=True):
        p = 1 / (1 + (-(u @ v)).exp())
        total = total - (p if label else 1 - p).log()
    return total


@pytest.mark.parametrize("labels", [SAME, SAME.float()[:, None], torch.ones(8), torch.zeros(8)])
def test_tension_is_the_loop_over_pairs(labels: Tensor) -> None:
    loss = with_other_copy(ContrastiveTensionLoss(Given()))
    assert_agrees(loss, [A, B], labels, lambda a, b: slow_tension(a, b, labels.flatten().tolist()))


def slow_batch(a: Tensor, scale: float, score: Any) -> Tensor:
    """Mean of -log p(i | i) over rows and over columns of the scores of the copy's and the model's embeddings."""
    ours, theirs = a + 0.25, a
    total = zero(a)
    for i in range(len(a)):
        by_row = [(scale * score(ours[i], other)).exp() for other in theirs]
        by_column = [(scale * score(other, theirs[i])).exp() for other in ours]
        total = total - (by_row[i] / sum(by_row)).log() - (by_column[i] / sum(by_column)).log()
    return total / (2 * len(a))


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_tension_in_a_batch_is_the_loop_both_ways(scale: float) -> None:
    loss = with_other_copy(ContrastiveTensionLossInBatchNegatives(Given(), scale)).double()
    loss.logit_scale.data = torch.tensor(scale, dtype=torch.float64).log()
    assert_agrees(loss, [A], None, lambda a: slow_batch(a, scale, cosine))


def test_the_copy_stands_on_the_left_of_the_similarity() -> None:
    def lopsided(x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([torch.stack([(u * v.abs()).sum() for v in y]) for u in x])

    loss = with_other_copy(ContrastiveTensionLossInBatchNegatives(Given(), 1.0, lopsided))
    assert_agrees(loss, [A], None, lambda a: slow_batch(a, 1.0, lambda u, v: (u * v.abs()).sum()))


def test_the_scale_is_trained_by_its_logarithm() -> None:
    loss = with_other_copy(ContrastiveTensionLossInBatchNegatives(Given(), 5.0)).double()
    loss([{"given": A}]).backward()
    step = 1e-6
    values = []
    with torch.no_grad():
        for sign in (1, -1):
            loss.logit_scale += sign * step
            values.append(loss([{"given": A}]).item())
            loss.logit_scale -= sign * step
    assert loss.logit_scale.grad.item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6)


def test_further_columns_are_not_used() -> None:
    loss = ContrastiveTensionLossInBatchNegatives(Given())
    assert loss([{"given": A}, {"given": B}]).equal(loss([{"given": A}]))


@pytest.mark.parametrize("kind", TENSION)
def test_the_copy_is_apart_and_the_model_is_the_given_one(kind: Any) -> None:
    model = Given()
    loss = kind(model)
    assert loss.model2 is loss.model is model
    assert loss.model1 is not model
    assert loss.model1.shift is not model.shift


@pytest.mark.parametrize("kind", TENSION)
def test_both_models_are_trained(kind: Any) -> None:
    loss = kind(Given())
    loss([{"given": A}, {"given": B}][: 2 if kind is ContrastiveTensionLoss else 1], SAME).backward()
    assert loss.model1.shift.grad.abs().item() > 0
    assert loss.model2.shift.grad.abs().item() > 0


def test_a_model_put_in_by_a_trainer_is_the_second_one() -> None:
    loss, other = ContrastiveTensionLoss(Given()), Given()
    loss.model = other
    assert loss.model2 is other


def test_without_labels_the_same_ids_are_the_same_text() -> None:
    ids = torch.tensor([[5, 6, 0], [5, 6, 7], [5, 0, 0], [5, 6, 0], [0, 0, 0], [1, 1, 1], [2, 2, 0], [3, 3, 0]])
    other = torch.tensor([[5, 6], [5, 6], [5, 6], [5, 6], [9, 9], [1, 1], [2, 2], [3, 0]])
    columns = [{"given": A, "input_ids": ids, "attention_mask": ids != 0}]
    columns.append({"given": B, "input_ids": other, "attention_mask": other != 0})
    loss = ContrastiveTensionLoss(Given())
    assert loss(columns).equal(loss(columns, torch.tensor([1, 0, 0, 1, 0, 0, 1, 0])))


def test_ids_are_the_same_on_whichever_side_padding_is() -> None:
    left, right = torch.tensor([[0, 5, 6], [0, 5, 7]]), torch.tensor([[5, 6], [5, 6]])
    masks = [torch.tensor([[0, 1, 1], [0, 1, 1]]), torch.ones(2, 2)]
    found = same_tokens(
        {"input_ids": left, "attention_mask": masks[0]}, {"input_ids": right, "attention_mask": masks[1]}
    )
    assert found.tolist() == [1, 0]


def test_without_labels_and_ids_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs labels for inputs without token ids"):
        ContrastiveTensionLoss(Given())([{"given": A}, {"given": B}])


@pytest.mark.parametrize("count", [1, 3])
def test_tension_needs_two_columns(count: int) -> None:
    with pytest.raises(ValueError, match=rf"ContrastiveTensionLoss expects 2 columns \(two texts\), but got {count}"):
        ContrastiveTensionLoss(Given())([{"given": A}] * count, SAME)


def test_tension_needs_a_label_for_each_pair() -> None:
    with pytest.raises(ValueError, match=r"expects 8 labels \(one per example\), but got 3"):
        ContrastiveTensionLoss(Given())([{"given": A}, {"given": B}], SAME[:3])


def test_tension_in_a_batch_needs_a_column() -> None:
    with pytest.raises(ValueError, match="expects at least 1 column"):
        ContrastiveTensionLossInBatchNegatives(Given())([])


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
def test_the_scale_is_positive(scale: float) -> None:
    with pytest.raises(ValueError, match="scale must be a positive finite number"):
        ContrastiveTensionLossInBatchNegatives(Given(), scale)


def test_a_wrapper_borrows_both_models() -> None:
    inner = with_other_copy(ContrastiveTensionLoss(Given()))
    loss = MatryoshkaLoss(inner.model, inner, [6])
    unit = [torch.nn.functional.normalize(one, dim=-1) for one in (A + 0.25, B)]
    found = loss([{"given": A}, {"given": B}], SAME)
    torch.testing.assert_close(found, contrastive_tension((unit[0] * unit[1]).sum(-1), SAME))


def test_configs_tell_the_scale_as_it_is_now() -> None:
    assert ContrastiveTensionLoss(Given()).get_config_dict() == {}
    loss = ContrastiveTensionLossInBatchNegatives(Given())
    assert loss.get_config_dict() == {"scale": pytest.approx(20.0), "similarity_fct": "cos_sim"}
    with torch.no_grad():
        loss.logit_scale.fill_(1.0)
    assert loss.get_config_dict()["scale"] == pytest.approx(2.718281828)


# --- objectives ------------------------------------------------------------------------------------------------------


def test_tension_of_scores_0_is_log_2_for_each_pair() -> None:
    assert contrastive_tension(torch.zeros(3), torch.tensor([1, 0, 1])).item() == pytest.approx(3 * 0.693147, rel=1e-5)


def test_equal_scores_both_ways_are_the_logarithm_of_the_batch() -> None:
    assert matched_both_ways(torch.ones(4, 4)).item() == pytest.approx(1.386294, rel=1e-5)


@pytest.mark.parametrize(
    ("padding", "expected"), [(0, math.log(3)), (None, (math.log(3) + math.log(1 + 1 / math.e)) / 2)]
)
def test_padding_is_not_predicted(padding: int | None, expected: float) -> None:
    logits = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, -1000.0]]])  # -log p: log 3 of token 1, then that of token 0
    assert next_tokens(logits, torch.tensor([[2, 1, 0]]), padding).item() == pytest.approx(expected, rel=1e-5)


# --- denoising -------------------------------------------------------------------------------------------------------

DAMAGED, SENTENCES = ["A cat", "dog sat"], ["a cat is here", "the dog sat on the mat"]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    return lambda family: str(tiny.build(family, tmp_path / family))


def encoder(path: str) -> Any:
    return SentenceTransformer(path, device="cpu").eval()


def columns_of(model: Any) -> list[dict[str, Any]]:
    return [model.preprocess(texts) for texts in (DAMAGED, SENTENCES)]


def slow_denoising(embed: Any, decoder: Any, tokens: list[list[int]]) -> Tensor:
    """Mean of -log p(token | tokens before it, embedding), one token of one text after the other."""
    parts = []
    for embedding, ids in zip(embed, tokens, strict=True):
        for at in range(1, len(ids)):
            logits = decoder(input_ids=torch.tensor([ids[:at]]), encoder_hidden_states=embedding[None, None]).logits
            p = logits[0, -1].exp() / logits[0, -1].exp().sum()
            parts.append(-p[ids[at]].log())
    return torch.stack(parts).mean()


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
@pytest.mark.parametrize("tied", [True, False])
def test_denoising_is_the_loop_over_tokens(family: str, tied: bool, folder: Any) -> None:
    path = folder(family)
    model = encoder(path)
    loss = DenoisingAutoEncoderLoss(model, None if tied else path, tie_encoder_decoder=tied).double().eval()
    tiny.set_weights(loss.decoder, "decoder")
    features = columns_of(model)

    def slow() -> Tensor:
        ids = [
            row[mask.bool()].tolist()
            for row, mask in zip(*map(features[1].get, ["input_ids", "attention_mask"]), strict=True)
        ]
        return slow_denoising(model(dict(features[0]))["sentence_embedding"], loss.decoder, ids)

    gradients = []
    for value in (loss(features), slow()):
        loss.zero_grad()
        value.backward()
        gradients.append({name: one.grad.clone() for name, one in loss.named_parameters() if one.grad is not None})
        assert value.item() == pytest.approx(loss(features).item(), rel=1e-10)
    assert gradients[0].keys() == gradients[1].keys()
    for name, one in gradients[0].items():
        torch.testing.assert_close(one, gradients[1][name], rtol=1e-7, atol=1e-9, msg=name)


def test_a_tied_decoder_shares_every_weight_that_the_encoder_uses(folder: Any) -> None:
    model = encoder(folder("bert"))
    loss = DenoisingAutoEncoderLoss(model)
    own = {id(one) for one in loss.decoder.parameters()}
    apart = [name for name, one in model[0].auto_model.named_parameters() if id(one) not in own]
    assert apart == ["pooler.dense.weight", "pooler.dense.bias"]
    assert loss.decoder.get_output_embeddings().weight is model[0].auto_model.get_input_embeddings().weight


def test_a_tied_decoder_starts_as_the_trained_encoder_not_as_the_checkpoint(folder: Any) -> None:
    model = encoder(folder("bert"))
    with torch.no_grad():
        model[0].auto_model.embeddings.word_embeddings.weight.fill_(0.125)
    assert DenoisingAutoEncoderLoss(model).decoder.get_input_embeddings().weight.eq(0.125).all()


def test_another_decoder_has_weights_of_its_own(folder: Any) -> None:
    path = folder("bert")
    model = encoder(path)
    loss = DenoisingAutoEncoderLoss(model, path, tie_encoder_decoder=False)
    ours = {id(one) for one in model.parameters()}
    assert not any(id(one) in ours for one in loss.decoder.parameters())


def test_only_the_embedding_tells_the_decoder_of_the_damaged_text(folder: Any) -> None:
    loss = DenoisingAutoEncoderLoss(encoder(folder("bert")))
    seen: dict[str, Any] = {}
    loss.decoder.register_forward_pre_hook(lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True)
    features = columns_of(loss.encoder)
    loss(features)
    embedding = loss.encoder(dict(features[0]))["sentence_embedding"]
    torch.testing.assert_close(seen["encoder_hidden_states"], embedding[:, None])
    assert seen["input_ids"].equal(features[1]["input_ids"][:, :-1])


def test_the_loss_learns_to_repair(folder: Any) -> None:
    loss = DenoisingAutoEncoderLoss(encoder(folder("bert")))
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.01)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        value = loss(columns_of(loss.encoder))
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.5 * values[0]


def test_a_decoder_with_another_vocabulary_gets_its_own_tokens(folder: Any) -> None:
    model = encoder(folder("bert"))
    loss = DenoisingAutoEncoderLoss(model, folder("roberta"), tie_encoder_decoder=False)
    assert loss.need_retokenization
    features = columns_of(model)
    made = loss.retokenize(features[1])
    plain = loss.tokenizer_decoder(SENTENCES, padding=True, return_tensors="pt")
    assert made["input_ids"].equal(plain["input_ids"])
    assert made["attention_mask"].equal(plain["attention_mask"])
    with torch.no_grad():
        expected = slow_denoising(
            model(dict(features[0]))["sentence_embedding"],
            loss.decoder.eval(),
            [loss.tokenizer_decoder(text)["input_ids"] for text in SENTENCES],
        )
        torch.testing.assert_close(loss(features), expected, rtol=1e-4, atol=1e-4)


def test_the_same_vocabulary_is_not_tokenised_again(folder: Any) -> None:
    model = encoder(folder("bert"))
    loss = DenoisingAutoEncoderLoss(model, folder("electra"), tie_encoder_decoder=False)
    assert not loss.need_retokenization


def test_a_tokenizer_without_padding_pads_with_the_end(folder: Any) -> None:
    path = Path(folder("gpt2"))
    config = json.loads((path / "tokenizer_config.json").read_text("utf-8"))
    del config["pad_token"]
    (path / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    loss = DenoisingAutoEncoderLoss(encoder(folder("bert")), str(path), tie_encoder_decoder=False)
    assert loss.tokenizer_decoder.pad_token == "<|endoftext|>"
    assert loss(columns_of(loss.encoder)).isfinite()


def test_the_decoder_has_the_type_of_the_encoder(folder: Any) -> None:
    model = encoder(folder("bert")).double()
    loss = DenoisingAutoEncoderLoss(model)
    assert {one.dtype for one in loss.decoder.parameters()} == {torch.float64}
    assert loss(columns_of(model)).dtype == torch.float64


@pytest.mark.parametrize("family", ["distilbert", "mpnet", "t5", "modernbert", "qwen3", "llama"])
def test_a_checkpoint_without_such_a_decoder_is_refused(family: str, folder: Any) -> None:
    path = folder(family)
    message = f'"{path}" does not support being as a decoder. .* models of type {family} have none'
    with pytest.raises(ValueError, match=message):
        DenoisingAutoEncoderLoss(encoder(path))


def test_weights_that_only_a_decoder_has_are_no_reason_to_warn(folder: Any, caplog: pytest.LogCaptureFixture) -> None:
    model = encoder(folder("bert"))
    before = transformers_logging.get_verbosity()
    DenoisingAutoEncoderLoss(model)
    assert caplog.records == []
    assert transformers_logging.get_verbosity() == before


def test_a_decoder_is_named_or_tied(folder: Any) -> None:
    with pytest.raises(ValueError, match="Must indicate the decoder_name_or_path argument when tie_encoder_decoder=Fa"):
        DenoisingAutoEncoderLoss(encoder(folder("bert")), tie_encoder_decoder=False)


def test_a_named_decoder_is_not_used_where_it_is_tied(folder: Any, caplog: pytest.LogCaptureFixture) -> None:
    path = folder("bert")
    with caplog.at_level(logging.WARNING):
        loss = DenoisingAutoEncoderLoss(encoder(path), folder("roberta"))
    assert "the decoder_name_or_path will be invalid" in caplog.text
    assert loss.decoder_name_or_path == path


def test_the_model_begins_with_a_transformer() -> None:
    with pytest.raises(ValueError, match="whose first module is a Transformer, not Given"):
        DenoisingAutoEncoderLoss(Given())


def test_embeddings_are_as_wide_as_the_decoder(folder: Any) -> None:
    model = encoder(folder("bert"))
    model.append(Dense(32, 8, activation_function=nn.Identity()))
    with pytest.raises(ValueError, match="looks at embeddings of 32 dimensions, but the model makes 8"):
        DenoisingAutoEncoderLoss(model)


def test_denoising_needs_two_columns(folder: Any) -> None:
    model = encoder(folder("bert"))
    with pytest.raises(ValueError, match="DenoisingAutoEncoderLoss expects 2 columns .*, but got 1"):
        DenoisingAutoEncoderLoss(model)(columns_of(model)[:1])


def test_the_config_names_the_decoder(folder: Any) -> None:
    path = folder("bert")
    config = DenoisingAutoEncoderLoss(encoder(path)).get_config_dict()
    assert config == {"decoder_name_or_path": path, "tie_encoder_decoder": True, "need_retokenization": False}


@pytest.mark.parametrize(
    ("kind", "words"), [(DenoisingAutoEncoderLoss, "Denoising Auto-Encoder"), *[(one, "Tension") for one in TENSION]]
)
def test_the_paper_is_cited(kind: Any, words: str) -> None:
    assert words in kind.citation.fget(kind)
