"""What a card says about where a training ran: versions of packages, and what it emitted."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .._version import __version__

PACKAGES = {
    "transformers": "Transformers",
    "torch": "PyTorch",
    "accelerate": "Accelerate",
    "datasets": "Datasets",
    "tokenizers": "Tokenizers",
}
"""Distribution -> what a card calls it."""


def get_versions() -> dict[str, str]:
    """Distribution -> version, of what computes; those that are not installed are left out."""
    found = {"python": platform.python_version(), "sentence_transformers": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def titled(versions: dict[str, str]) -> dict[str, str]:
    """The same with the names of a card."""
    titles = {"python": "Python", "sentence_transformers": "Sentence Transformers", **PACKAGES}
    return {titles.get(name, name): value for name, value in versions.items()}


def emissions(tracker: Any) -> dict[str, Any]:
    """``co2_eq_emissions`` of the YAML header from a tracker of codecarbon that has stopped; {} without its data.

    Emissions are in grams of CO2 equivalents, energy in kWh.
    """
    data = getattr(tracker, "final_emissions_data", None)
    if data is None:
        return {}
    hardware = getattr(data, "gpu_model", None)
    found = {
        "emissions": float(data.emissions) * 1000,
        "energy_consumed": float(data.energy_consumed),
        "source": "codecarbon",
        "training_type": "fine-tuning",
        "on_cloud": str(getattr(data, "on_cloud", "N")) == "Y",
        "cpu_model": getattr(data, "cpu_model", None),
        "ram_total_size": getattr(data, "ram_total_size", None),
        "hours_used": round(float(data.duration) / 3600, 3),
        "hardware_used": hardware,
    }
    return {name: value for name, value in found.items() if value not in (None, "")}
