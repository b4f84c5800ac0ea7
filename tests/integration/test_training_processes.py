"""Training in two processes is training in one process with the joined batch: same losses, same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.integration.process_groups import WORLD, Group

pytest.importorskip("accelerate", reason="training needs accelerate")

from tests.integration import training_processes  # noqa: E402  (a script, too: it is run by path)

SCRIPT = Path(training_processes.__file__)
LOGGED = 2e-6
"""The trainer adds up losses in float32."""
EXACT = 1e-9
"""Of weights in float64, after a few steps of Adam."""


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the results of all cases, and in ``said`` what the processes have written."""
    folder = tmp_path_factory.mktemp("trainings")
    group = Group(folder)
    group.by_torchrun(SCRIPT, str(folder))
    group.start(str(SCRIPT), str(folder))
    (folder / "said").write_text(group.wait(), "utf-8")
    return folder


def result(folder: Path, who: str, case: str) -> Any:
    path = folder / f"{who}-{case}.pt"
    if not path.is_file():
        pytest.fail((folder / "said").read_text("utf-8"))
    return torch.load(path, weights_only=False)


def apart(one: dict[str, Any], other: dict[str, Any]) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize("case", training_processes.CASES)
def test_two_processes_log_what_one_does_with_the_joined_batch(case: str, folder: Path) -> None:
    alone, first = (result(folder, who, case)["logs"] for who in ("alone", "0"))
    assert alone.keys() == first.keys() >= {"loss", "grad_norm", "learning_rate"}
    assert len(alone["loss"]) >= 4
    for name, values in alone.items():
        assert first[name] == pytest.approx(values, abs=LOGGED, rel=LOGGED), name


@pytest.mark.parametrize("case", training_processes.CASES)
def test_two_processes_end_with_the_weights_of_one(case: str, folder: Path) -> None:
    alone, *several = (result(folder, who, case)["weights"] for who in ("alone", *map(str, range(WORLD))))
    assert [apart(alone, one) < EXACT for one in several] == [True] * WORLD
    assert apart(*several) == 0


def test_losses_have_parts_of_their_own_among_the_weights(folder: Path) -> None:
    assert any("classifier" in name for name in result(folder, "alone", "own parameters")["weights"])
