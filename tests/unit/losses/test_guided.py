"""Guided losses against loops over candidates, and what the guide is run on."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from losses_checking import assert_same, cosine, trained, value_and_gradients
from losses_contrastive_facts import GISTS, Encoder, guided
from losses_gathering import Layers, word_tokenizer
from losses_pairs_facts import Given, column
from torch import Tensor, nn

from sentence_transformers import SentenceTransformer
from sentence_transformers.losses.guided import CachedGISTEmbedLoss, GISTEmbedLoss
from sentence_transformers.losses.wrappers import AdaptiveLayerLoss, MatryoshkaLoss

ROWS = 6
COLUMNS = [column(seed, rows=ROWS) for seed in range(4)]
GUIDED = [guided(seed, rows=ROWS) for seed in range(4)]
TEXTS = (["hello world", "a b c d", "one two"], ["world", "c d e f g", "three"], ["four", "hello", "e f"])


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return word_tokenizer()


def features(columns: list[Tensor], of_guide: list[Tensor] = GUIDED) -> list[dict[str, Any]]:
    return [{"given": one, "guided": other} for one, other in zip(columns, of_guide, strict=False)]


def built(kind: Any, tokenizer: Any, model: nn.Module | None = None, **settings: Any) -> Any:
    return kind(model or Encoder(tokenizer), Encoder(tokenizer, "guided"), **settings)


def slow(
    *columns: Tensor,
    of_guide: list[Tensor] = GUIDED,
    temperature: float = 0.01,
    margin_strategy: str = "absolute",
    margin: float = 0.0,
    contrast_anchors: bool = True,
    contrast_positives: bool = True,
) -> Tensor:
    losses = []
    for i in range(len(columns[0])):
        trusted = cosine(of_guide[0][i], of_guide[1][i])
        limit = trusted - (margin if margin_strategy == "absolute" else margin * abs(trusted))
        pairs = [(0, place, j) for place in range(1, len(columns)) for j in range(ROWS) if (place, j) != (1, i)]
        pairs += [(0, 0, j) for j in range(ROWS) if contrast_anchors and j != i]
        pairs += [(1, 1, j) for j in range(ROWS) if contrast_positives and j != i]
        kept = [(0, 1, i)]  # the positive, then the negatives
        kept += [(x, y, j) for x, y, j in pairs if cosine(of_guide[x][i], of_guide[y][j]) <= limit]
        logits = torch.stack([cosine(columns[x][i], columns[y][j]) / temperature for x, y, j in kept])
        losses.append(logits.logsumexp(0) - logits[0])
    return torch.stack(losses).mean()


# --- what is minimised -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("name", GISTS)
def test_negatives_are_those_that_the_guide_leaves(name: str, count: int, tokenizer: Any) -> None:
    loss = built(GISTEmbedLoss, tokenizer, **GISTS[name])
    value, gradients = value_and_gradients(lambda some: loss(features(some)), COLUMNS[:count])
    expected, slow_gradients = value_and_gradients(lambda some: slow(*some, **GISTS[name]), COLUMNS[:count])
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients, slow_gradients, rtol=1e-10, atol=1e-10)


def test_these_cases_strike_some_candidates_and_leave_some(tokenizer: Any) -> None:
    for settings in GISTS.values():
        struck = built(GISTEmbedLoss, tokenizer, **settings).false_negatives(features(COLUMNS[:3]))
        assert 0.1 < struck.double().mean() < 0.9


def test_a_hand_value(tokenizer: Any) -> None:
    # the guide's cosines: 1 and 0.707 of the first anchor, 0 and 0.707 of the second; a limit of 0.5 strikes one
    anchors = torch.eye(2, dtype=torch.float64)
    of_guide = [anchors, torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)]
    settings: dict[str, Any] = {"temperature": 1.0, "contrast_anchors": False, "contrast_positives": False}
    found = built(GISTEmbedLoss, tokenizer, **settings)(features([anchors, anchors], of_guide))
    assert found.item() == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-12)
    found = built(GISTEmbedLoss, tokenizer, margin=0.5, **settings)(features([anchors, anchors], of_guide))
    assert found.item() == pytest.approx(math.log(1 + math.exp(-1)) / 2, rel=1e-12)


@pytest.mark.parametrize("margin", [0.0, -0.5])
def test_no_text_is_a_negative_of_itself(margin: float, tokenizer: Any) -> None:
    # pairs of one text: nothing is closer than an anchor and its positive, themselves included
    same = [GUIDED[0], GUIDED[0]]
    struck = built(GISTEmbedLoss, tokenizer, margin=margin).false_negatives(features(COLUMNS[:2], same))
    positives, anchors, others = struck.view(ROWS, 3 * ROWS).split(ROWS, dim=1)
    assert anchors.diagonal().all() and others.diagonal().all()
    assert not positives.diagonal().any()


def test_one_row_has_no_negatives(tokenizer: Any) -> None:
    found = built(GISTEmbedLoss, tokenizer)(features([one[:1] for one in COLUMNS[:2]], [one[:1] for one in GUIDED]))
    assert found.item() == 0


@pytest.mark.parametrize("size", [1, 4, 50])
@pytest.mark.parametrize("name", ["defaults", "relative", "pairs alone"])
def test_the_cached_form_changes_nothing(name: str, size: int, tokenizer: Any) -> None:
    model = Layers(tokenizer)
    plain = built(GISTEmbedLoss, tokenizer, model, **GISTS[name])
    cached = built(CachedGISTEmbedLoss, tokenizer, model, mini_batch_size=size, **GISTS[name])
    assert_same(trained(cached, features(COLUMNS), None), trained(plain, features(COLUMNS), None))


@pytest.mark.parametrize("kind", [GISTEmbedLoss, CachedGISTEmbedLoss])
@pytest.mark.parametrize("settings", [{}, {"contrast_anchors": False, "contrast_positives": False}])
def test_the_guide_judges_whole_embeddings_where_the_model_is_cut(kind: Any, settings: Any, tokenizer: Any) -> None:
    # in the second case there are as many candidates as dimensions
    model = Layers(tokenizer)
    inner = built(kind, tokenizer, model, temperature=0.2, **settings)
    value = MatryoshkaLoss(model, inner, [6, 3])(features(COLUMNS[:2]))
    embeddings = [model(one)["sentence_embedding"] for one in features(COLUMNS[:2])]
    expected = sum(slow(*(one[:, :width] for one in embeddings), temperature=0.2, **settings) for width in (6, 3))
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=0)


# --- the guide -------------------------------------------------------------------------------------------------------


@pytest.fixture
def encoder(tiny_folder: Callable[[str], Path]) -> Callable[[str], Any]:
    """A new model in float64, which may be changed."""
    return lambda family: SentenceTransformer(str(tiny_folder(family)), device="cpu").double()


def watched(guide: Any, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a guide is run on, from now on."""
    seen: list[dict[str, Any]] = []
    forward = guide.forward

    def run(features: dict[str, Any]) -> Any:
        seen.append({**features, "training": guide.training, "gradients": torch.is_grad_enabled()})
        return forward(features)

    monkeypatch.setattr(guide, "forward", run)
    return seen


def test_with_one_vocabulary_the_guide_gets_the_same_features(encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, guide = encoder("bert"), encoder("bert")
    loss = GISTEmbedLoss(model, guide)
    assert not loss.must_retokenize
    monkeypatch.setattr(guide, "preprocess", None)
    seen, columns = watched(guide, monkeypatch), [model.preprocess(texts) for texts in TEXTS]
    loss(columns)
    assert [some["input_ids"].tolist() for some in seen] == [some["input_ids"].tolist() for some in columns]


@pytest.mark.parametrize("kind", [GISTEmbedLoss, CachedGISTEmbedLoss])
def test_a_guide_with_another_vocabulary_gets_the_texts(
    kind: Any, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, guide = encoder("bert"), encoder("roberta")
    loss = kind(model, guide)
    assert loss.must_retokenize
    seen = watched(guide, monkeypatch)
    loss([model.preprocess(texts) for texts in TEXTS])
    expected = [guide.preprocess(texts) for texts in TEXTS]
    assert [some["input_ids"].tolist() for some in seen] == [some["input_ids"].tolist() for some in expected]


@pytest.mark.parametrize(("of_guide", "of_model", "again"), [(5, 9, True), (9, 5, False), (5, 5, False)])
def test_a_guide_that_takes_fewer_tokens_gets_the_texts(
    of_guide: int, of_model: int, again: bool, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, guide = encoder("bert"), encoder("bert")
    model.max_seq_length, guide.max_seq_length = of_model, of_guide
    loss = GISTEmbedLoss(model, guide)
    assert loss.must_retokenize is again
    seen = watched(guide, monkeypatch)
    loss([model.preprocess(texts) for texts in TEXTS])
    assert max(some["input_ids"].shape[1] for some in seen) == 5


@pytest.mark.parametrize(("of_guide", "of_model", "again"), [(None, 5, False), (5, None, True), (None, None, False)])
def test_no_limit_is_the_longest(of_guide: int | None, of_model: int | None, again: bool, tokenizer: Any) -> None:
    model, guide = Encoder(tokenizer), Encoder(tokenizer, "guided")
    model.max_seq_length, guide.max_seq_length = of_model, of_guide  # type: ignore[assignment]
    assert GISTEmbedLoss(model, guide).must_retokenize is again


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_the_cached_form_runs_the_guide_in_parts_too(
    family: str, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, guide = encoder("bert").eval(), encoder(family)
    columns = [model.preprocess(texts) for texts in TEXTS]
    plain = trained(GISTEmbedLoss(model, guide), columns, None)
    seen = watched(guide, monkeypatch)
    cached = trained(CachedGISTEmbedLoss(model, guide, mini_batch_size=2), columns, None)
    assert [len(some["input_ids"]) for some in seen] == [2, 1] * 3
    assert_same(cached, plain, 1e-8)


@pytest.mark.parametrize("kind", [GISTEmbedLoss, CachedGISTEmbedLoss])
def test_the_guide_is_neither_trained_nor_left_to_dropout(
    kind: Any, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, guide = encoder("bert"), encoder("bert").train()
    guide[1].eval()
    loss = kind(model, guide)
    seen = watched(guide, monkeypatch)
    loss([model.preprocess(texts) for texts in TEXTS]).backward()
    assert len(seen) == 3 and not any(some["training"] or some["gradients"] for some in seen)
    assert all(parameter.grad is None for parameter in guide.parameters())
    assert any(parameter.grad is not None for parameter in model.parameters())
    assert [guide.training, guide[0].training, guide[1].training] == [True, True, False]  # as before


def test_a_model_may_guide_itself(encoder: Any) -> None:
    model = encoder("bert").train()
    loss = GISTEmbedLoss(model, model)
    loss([model.preprocess(texts) for texts in TEXTS]).backward()
    assert model.training
    assert any(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("kind", [GISTEmbedLoss, CachedGISTEmbedLoss])
def test_layers_may_be_taken_off_a_guided_model(kind: Any, encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, guide = encoder("bert").eval(), encoder("roberta")
    seen = watched(guide, monkeypatch)
    value = AdaptiveLayerLoss(model, kind(model, guide), n_layers_per_step=-1)([model.preprocess(one) for one in TEXTS])
    value.backward()
    assert len(seen) == 3 and value.isfinite()


# --- settings --------------------------------------------------------------------------------------------------------


def test_settings_are_taken_by_place(tokenizer: Any) -> None:
    model, guide = Encoder(tokenizer), Encoder(tokenizer, "guided")
    plain = GISTEmbedLoss(model, guide, 0.1, "relative", 0.2, False, False, True).get_config_dict()
    cached = CachedGISTEmbedLoss(model, guide, 0.1, 4, 90, True, "relative", 0.2, False, False, True).get_config_dict()
    assert str(plain.pop("guide")).endswith("Encoder")
    assert plain == {
        "temperature": 0.1, "margin_strategy": "relative", "margin": 0.2, "contrast_anchors": False,
        "contrast_positives": False, "gather_across_devices": True,
    }  # fmt: skip
    del cached["guide"]
    assert cached == {**plain, "mini_batch_size": 4, "mini_batch_num_tokens": 90, "show_progress_bar": True}


@pytest.mark.parametrize("kind", [GISTEmbedLoss, CachedGISTEmbedLoss])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"margin_strategy": "relativ"}, "margin_strategy must be one of .*got 'relativ'. Did you mean 'relative'"),
        ({"temperature": 0}, "temperature must be a positive finite number, got 0"),
        ({"temperature": -0.1}, "temperature must be a positive finite number"),
    ],
)
def test_settings_that_cannot_be_are_refused(kind: Any, settings: Any, message: str, tokenizer: Any) -> None:
    with pytest.raises(ValueError, match=message):
        built(kind, tokenizer, **settings)


def test_models_without_tokenizers_are_refused(tokenizer: Any) -> None:
    for model, guide in ((Given(), Encoder(tokenizer)), (Encoder(tokenizer), Given())):
        with pytest.raises(ValueError, match="model and the guiding model must have a tokenizer attribute"):
            GISTEmbedLoss(model, guide)


def test_other_tokenizers_are_refused(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="must use a PreTrainedTokenizer from transformers; got str"):
        GISTEmbedLoss(Encoder("words"), Encoder(tokenizer))


@pytest.mark.parametrize("kind", [GISTEmbedLoss, CachedGISTEmbedLoss])
def test_one_column_is_too_few(kind: Any, tokenizer: Any) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__} expects at least 2 columns .*but got 1"):
        built(kind, tokenizer)(features(COLUMNS[:1]))


def test_embeddings_alone_are_not_enough(tokenizer: Any) -> None:
    loss = built(GISTEmbedLoss, tokenizer)
    with pytest.raises(ValueError, match=r"pass false_negatives\(features\)"):
        loss.compute_loss_from_embeddings(COLUMNS[:2])
    judged = loss.false_negatives(features(COLUMNS[:2]))
    torch.testing.assert_close(loss.compute_loss_from_embeddings(COLUMNS[:2], judged), slow(*COLUMNS[:2]))


def test_citations(tokenizer: Any) -> None:
    assert "GISTEmbed" in built(GISTEmbedLoss, tokenizer).citation
    assert "Memory Limited" in built(CachedGISTEmbedLoss, tokenizer).citation
