"""The requirements key of a model's config."""

from __future__ import annotations

import logging
from importlib.metadata import PackageNotFoundError

import pytest

from sentence_transformers._version import __version__
from sentence_transformers.hub import requirements
from sentence_transformers.hub.requirements import check_requirements, check_version_requirements


@pytest.fixture(autouse=True)
def versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed, for the test."""
    installed = {"torch": "2.9.1+cpu", "transformers": "5.1.0.dev0"}

    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(requirements, "version", version)


@pytest.mark.parametrize(
    "wanted",
    [
        None,
        {},
        {"pytorch": ">=2.6", "torch": "==2.9.1", "python": ">=3.10"},
        {"sentence_transformers": f"=={__version__}", "transformers": {"specifier": ">=5.0", "reason": "x"}},
        {"transformers": ""},
    ],
)
def test_what_is_met_passes(wanted: object) -> None:
    check_requirements({"requirements": wanted}, "acme/tiny")


def test_a_config_without_requirements_passes() -> None:
    check_requirements({}, "acme/tiny")


def test_all_that_is_unmet_is_listed_with_one_command() -> None:
    wanted = {
        "transformers": {"specifier": ">=9", "reason": "a new model"},
        "pytorch": "<2",
        "peft": ">=0.1",
        "python": "<3",
    }
    with pytest.raises(ImportError) as error:
        check_requirements({"requirements": wanted}, "acme/tiny")
    text = str(error.value)
    assert "transformers>=9 (5.1.0.dev0 is installed; a new model)" in text
    assert "torch<2 (2.9.1+cpu is installed)" in text
    assert "peft>=0.1 (it is not installed)" in text
    assert 'pip install -U "transformers>=9" "torch<2" "peft>=0.1"' in text
    assert "Use another version of Python." in text


@pytest.mark.parametrize(
    "wanted",
    [["transformers"], "transformers", {"transformers": 5}, {"transformers": "at least 5"}, {"a b; rm": ">=1"}],
)
def test_a_malformed_entry_only_warns(wanted: object, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_requirements({"requirements": wanted}, "acme/tiny")
    assert "acme/tiny" in caplog.text


def test_requirements_without_their_config() -> None:
    check_version_requirements({"torch": ">=1"})
    check_version_requirements(None)
    with pytest.raises(ImportError, match="of this folder"):
        check_version_requirements({"torch": ">=1000"})
