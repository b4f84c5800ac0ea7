"""Losses in a card: their names and settings, and every paper cited once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from torch import nn

from sentence_transformers.cards import losses
from sentence_transformers.cards.data import SentenceTransformerModelCardData
from sentence_transformers.losses.contrastive import MultipleNegativesRankingLoss
from sentence_transformers.losses.pairs import AnglELoss, CoSENTLoss
from sentence_transformers.losses.wrappers import MatryoshkaLoss


class Plain(nn.Module):
    """A loss of a user, which says nothing of itself."""


class Odd(nn.Module):
    citation = "@misc{odd,\n title={Odd}\n}"

    def get_config_dict(self) -> dict[str, Any]:
        return {"object": object, "number": 1}


@pytest.fixture
def model() -> nn.Module:
    return nn.Linear(2, 2)


def names(found: list[Any]) -> list[str]:
    return [type(one).__name__ for one in found]


def test_a_wrapped_loss_counts_too(model: nn.Module) -> None:
    loss = MatryoshkaLoss(model, MultipleNegativesRankingLoss(model), [2])
    assert names(losses.all_of(loss)) == ["MatryoshkaLoss", "MultipleNegativesRankingLoss"]


def test_losses_by_name_count_once_each(model: nn.Module) -> None:
    shared = CoSENTLoss(model)
    assert names(losses.all_of({"a": shared, "b": shared, "c": Plain()})) == ["CoSENTLoss", "Plain"]


def test_no_loss_is_none() -> None:
    assert losses.all_of(None) == [] and losses.described(None) is None


def test_settings_are_json(model: nn.Module) -> None:
    found = losses.described(CoSENTLoss(model, scale=7.0))
    assert found is not None
    assert found["fullname"] == "CoSENTLoss"
    assert json.loads(found["config"])["scale"] == 7.0


def test_a_loss_of_ones_own_is_named_by_its_path() -> None:
    assert losses.described(Plain()) == {"fullname": f"{__name__}.Plain", "config": ""}


def test_settings_of_any_kind_are_written() -> None:
    found = losses.described(Odd())
    assert found is not None and json.loads(found["config"]) == {"object": "<class 'object'>", "number": 1}


def test_losses_become_tags_and_citations(model: nn.Module) -> None:
    card = SentenceTransformerModelCardData()
    card.set_losses([CoSENTLoss(model), Plain(), Odd()])
    card.set_losses([CoSENTLoss(model)])
    assert card.tags[4:] == ["loss:CoSENTLoss", "loss:Plain", "loss:Odd"]
    assert list(card.citations) == ["CoSENTLoss", "Odd"]


ONE, TWO = "@misc{one,\n  title={{O}ne},\n}", "@article{two,\n  title={Two @ home}\n}"


def test_the_same_citation_has_one_heading() -> None:
    assert losses.once_each({"A": ONE, "B": TWO, "C": f"{ONE}\n"}) == [("A and C", ONE), ("B", TWO)]


def test_an_entry_is_cited_once() -> None:
    assert losses.once_each({"A": ONE, "B": f"{ONE}\n\n{TWO}\n"}) == [("A", ONE), ("B", TWO)]


def test_what_cites_nothing_new_has_no_heading() -> None:
    assert losses.once_each({"A": f"{ONE}\n{TWO}", "B": TWO}) == [("A", f"{ONE}\n\n{TWO}")]


def test_citations_of_our_losses_are_whole(model: nn.Module) -> None:
    found = losses.once_each({"CoSENTLoss": CoSENTLoss(model).citation, "AnglELoss": AnglELoss(model).citation})
    text = "\n".join(entry for _, entry in found)
    assert text.count("{") == text.count("}")
    assert len(found) == 2
