"""The course of a training in a card: settings, the log, durations, emissions."""

from __future__ import annotations

import enum
from types import SimpleNamespace
from typing import Any

import pytest

from sentence_transformers.cards import environment, history


class Choice(enum.Enum):
    FIRST = "first"


def test_secrets_and_places_are_no_settings() -> None:
    given = {"hub_token": "hf_x", "push_to_hub_token": "x", "output_dir": "/home/me", "_private": 1, "seed": 7}
    assert history.settings(given) == {"seed": 7}


def test_settings_are_plain_values() -> None:
    given = {"a": Choice.FIRST, "b": {Choice.FIRST: (1, 2)}, "c": test_settings_are_plain_values, "d": dict}
    assert history.settings(given) == {
        "a": "first", "b": {"first": [1, 2]}, "c": "test_settings_are_plain_values", "d": "dict",
    }  # fmt: skip


def test_what_differs_from_the_defaults() -> None:
    given = history.settings({"a": 1, "b": 2, "c": Choice.FIRST, "unknown": 5})
    assert history.changed(given, {"a": 1, "b": 3, "c": Choice.FIRST}) == {"b": 2}


@pytest.mark.parametrize("default", [None, False, "", [], {}])
@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_nothing_does_not_differ_from_nothing(value: Any, default: Any) -> None:
    assert history.changed({"a": value}, {"a": default}) == {}


@pytest.mark.parametrize(("value", "default"), [(0, None), (0.0, 1.0), (False, True), (None, 5), (1, True + 1)])
def test_zero_and_no_are_values(value: Any, default: Any) -> None:
    assert history.changed({"a": value}, {"a": default}) == {"a": value}


def test_a_list_of_settings() -> None:
    assert (
        history.list_of({"a_b": "x*", "c": "y" * 600}) == f"- <code>a_b</code>: x&#42;\n- <code>c</code>: {'y' * 499}…"
    )


# --- the log


def noted(*entries: tuple[float, int, dict[str, Any]]) -> list[history.Row]:
    rows: list[history.Row] = []
    for epoch, step, values in entries:
        history.note(rows, epoch, step, values)
    return rows


def test_what_is_told_at_one_step_is_one_row() -> None:
    assert noted((0.5, 1, {"a": 1}), (0.5, 1, {"b": 2}), (1.0, 2, {"a": 3})) == [
        {"Epoch": 0.5, "Step": 1, "a": 1, "b": 2},
        {"Epoch": 1.0, "Step": 2, "a": 3},
    ]


def test_what_is_measured_twice_outside_of_a_training_is_two_rows() -> None:
    rows = noted((-1, -1, {"a": 1}), (-1, -1, {"b": 2}), (-1, -1, {"a": 3}))
    assert rows == [{"Epoch": -1, "Step": -1, "a": 1, "b": 2}, {"Epoch": -1, "Step": -1, "a": 3}]


def test_the_columns_of_a_log() -> None:
    rows = noted(
        (0.5, 1, {"dev_map": 0.5, "nli loss": 1.0}), (1.0, 2, {"Training Loss": 0.123456, "Validation Loss": 2})
    )
    assert history.log_table(rows, None).splitlines() == [
        "| Epoch | Step | Training Loss | Validation Loss | nli loss | dev_map |",
        "| :---: | :--: | :-----------: | :-------------: | :------: | :-----: |",
        "| 0.5   | 1    | -             | -               | 1.0      | 0.5     |",
        "| 1.0   | 2    | 0.1235        | 2               | -        | -       |",
    ]


def test_the_best_step_is_bold() -> None:
    shown = history.log_table(noted((0.5, 1, {"a": 1.5}), (1.0, 2, {"a": 2.5})), 2).splitlines()
    assert shown[2].replace(" ", "") == "|0.5|1|1.5|"
    assert shown[3].replace(" ", "") == "|**1.0**|**2**|**2.5**|"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(2.54, "2.5 seconds"), (90, "1.5 minutes"), (7200, "2.0 hours"), (0, "0.0 seconds")]
)
def test_durations(seconds: float, shown: str) -> None:
    assert history.duration(seconds) == shown


# --- where it ran


def test_versions_of_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(environment.PACKAGES, "no-such-package", "No")
    found = environment.get_versions()
    assert {"python", "sentence_transformers", "torch", "transformers", "tokenizers"} <= found.keys()
    assert "no-such-package" not in found
    assert environment.titled(found)["PyTorch"] == found["torch"]


def test_emissions_as_the_hub_reads_them() -> None:
    measured = SimpleNamespace(
        emissions=0.002, energy_consumed=0.005, duration=5400.0, on_cloud="N", cpu_model="Some CPU",
        ram_total_size=31.5, gpu_model=None,
    )  # fmt: skip
    assert environment.emissions(SimpleNamespace(final_emissions_data=measured)) == {
        "emissions": 2.0,
        "energy_consumed": 0.005,
        "source": "codecarbon",
        "training_type": "fine-tuning",
        "on_cloud": False,
        "cpu_model": "Some CPU",
        "ram_total_size": 31.5,
        "hours_used": 1.5,
    }


@pytest.mark.parametrize("tracker", [None, SimpleNamespace(), SimpleNamespace(final_emissions_data=None)])
def test_a_tracker_without_data_has_no_emissions(tracker: Any) -> None:
    assert environment.emissions(tracker) == {}
