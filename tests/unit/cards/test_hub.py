"""What the Hub is asked for a card, and what is made of its answers; without a network."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import RepositoryNotFoundError

from sentence_transformers.cards import hub
from sentence_transformers.cards.data import SentenceTransformerModelCardData
from sentence_transformers.hub import download


class Api:
    """Knows some repositories; counts questions."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, str | None]] = []

    def _info(self, kind: str, name: str, revision: str | None) -> Any:
        self.asked.append((kind, name, revision))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def model_info(self, name: str, revision: str | None, timeout: float) -> Any:
        return self._info("model", name, revision)

    def dataset_info(self, name: str, revision: str | None, timeout: float) -> Any:
        return self._info("dataset", name, revision)


Online = Callable[[Any], Api]


def not_there() -> Exception:
    """What huggingface_hub raises about a repository that does not exist; its HTTP library differs by version."""
    error = RepositoryNotFoundError.__new__(RepositoryNotFoundError)
    Exception.__init__(error, "no such repository")
    return error


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Online:
    """``online(answer)``: what the Hub answers, or raises."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)

    def with_(answer: Any) -> Api:
        api = Api(answer)
        monkeypatch.setattr(download, "api", lambda token: api)
        return api

    return with_


def info(name: str, language: Any = None) -> Any:
    return SimpleNamespace(id=name, sha="c0ffee", card_data=SimpleNamespace(language=language))


def test_the_hub_says_how_a_model_is_spelled(online: Online) -> None:
    online(info("google-bert/bert-base-uncased"))
    card = SentenceTransformerModelCardData()
    assert card.set_base_model("bert-base-uncased")
    assert (card.base_model, card.base_model_revision) == ("google-bert/bert-base-uncased", "c0ffee")


def test_a_given_revision_is_kept(online: Online) -> None:
    api = online(info("a/b"))
    card = SentenceTransformerModelCardData()
    assert card.set_base_model("a/b", "abc")
    assert (api.asked, card.base_model_revision) == ([("model", "a/b", "abc")], "abc")


def test_what_the_hub_does_not_have_is_not_set(online: Online) -> None:
    online(not_there())
    card = SentenceTransformerModelCardData()
    assert not card.set_base_model("a/b")
    assert card.base_model is None


@pytest.mark.parametrize("error", [ConnectionError("down"), PermissionError("gated"), TimeoutError()])
def test_a_hub_that_does_not_answer_is_no_failure(error: Exception, online: Online) -> None:
    online(error)
    card = SentenceTransformerModelCardData()
    assert card.set_base_model("a/b", "abc")
    assert (card.base_model, card.base_model_revision) == ("a/b", "abc")


def test_the_hub_is_not_asked_if_it_may_not_be(online: Online, monkeypatch: pytest.MonkeyPatch) -> None:
    api = online(info("c/d"))
    assert SentenceTransformerModelCardData(local_files_only=True).set_base_model("a/b")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert SentenceTransformerModelCardData().set_base_model("a/b")
    assert api.asked == []


@pytest.mark.parametrize("name", ["/home/me/model", "./model", "a/b/c", ""])
def test_a_path_is_no_name_on_the_hub(name: str, online: Online) -> None:
    api = online(info("c/d"))
    assert not SentenceTransformerModelCardData().set_base_model(name)
    assert not SentenceTransformerModelCardData(local_files_only=True).set_base_model(name)
    assert api.asked == []


def test_names_of_local_data_are_not_asked_for(online: Online) -> None:
    api = online(info("csv"))
    assert hub.ask("dataset", "csv") is None
    assert api.asked == []


ROWS = [{"a": "x", "b": "y"}] * 2


def trained_on(card: SentenceTransformerModelCardData) -> dict[str, Any]:
    (facts,) = card.extract_dataset_metadata(ROWS, [{"name": "N", "id": "a/n", "revision": "abc"}], None, "train")
    return facts


@pytest.mark.parametrize(("language", "codes"), [("en", ["en"]), (["en", "de"], ["en", "de"]), (None, [])])
def test_the_language_of_data_becomes_that_of_the_model(language: Any, codes: list[str], online: Online) -> None:
    api = online(info("a/n", language))
    card = SentenceTransformerModelCardData()
    assert trained_on(card)["id"] == "a/n"
    assert (card.language, api.asked) == (codes, [("dataset", "a/n", "abc")])


def test_a_language_that_is_known_stays(online: Online) -> None:
    online(info("a/n", "en"))
    card = SentenceTransformerModelCardData(language="nl")
    trained_on(card)
    assert card.language == ["nl"]


def test_data_that_the_hub_does_not_have_get_no_link(online: Online, caplog: pytest.LogCaptureFixture) -> None:
    online(not_there())
    facts = trained_on(SentenceTransformerModelCardData())
    assert (facts["name"], facts["id"]) == ("N", None)
    assert "The Hub has no dataset 'a/n'" in caplog.text


def test_data_are_named_without_the_hub(online: Online) -> None:
    api = online(info("x/y"))
    assert trained_on(SentenceTransformerModelCardData(local_files_only=True))["id"] == "a/n"
    assert api.asked == []
