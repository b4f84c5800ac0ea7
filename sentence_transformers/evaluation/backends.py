"""Which way of computing a model is best on this machine: a race of the ways there are, on the user's own texts.

A way is a row of ``WAYS``. All ways take turns with the first one, so that a noisy machine slows down both.
"""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from sentence_transformers.backend.native.int8_kernels import capabilities
from sentence_transformers.encoders.exporting import export_dynamic_quantized_onnx_model
from sentence_transformers.encoders.quality import Answers, Quality, answers, compare, sample
from sentence_transformers.errors import need, one_of, positive

logger = logging.getLogger(__name__)

MOST_TEXTS = 1000
SINGLES = 9  # single texts that are timed one by one
WORTH = 1.05  # times the speed of the first way, below which a change is not worth it
COLOUR, PALE = "#0072B2", "#9DB8C9"

REFUSED = (ImportError, ValueError, RuntimeError, NotImplementedError, OSError)
"""What a way raises that is not for this model or this machine."""


@dataclass(frozen=True)
class Way:
    """One way of computing a model.

    Attributes:
        name: how it is called in the table.
        backend, model_kwargs: arguments of the encoder.
        prepare: makes a file in a saved model's folder that the way needs; None where it needs none.
        made_by: what is written to make that file.
    """

    name: str
    backend: str = "torch"
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Any, Path], None] | None = None
    made_by: str = ""

    @property
    def arguments(self) -> str:
        """What is written in the call of an encoder to take this way."""
        parts = [f'backend="{self.backend}"'] if self.backend != "torch" else []
        parts += [f"model_kwargs={dict(self.model_kwargs)!r}"] if self.model_kwargs else []
        return ", ".join(parts)


def onnx_instructions() -> str:
    """The name of the 8-bit ONNX files that are made for this processor."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "arm64"
    has = capabilities()
    return "avx512_vnni" if has.get("avx512_vnni") else "avx512" if has.get("avx512_f") else "avx2"


def _onnx_int8(model: Any, folder: Path) -> None:
    export_dynamic_quantized_onnx_model(model, onnx_instructions(), str(folder), file_suffix=INT8)


INT8 = "int8"

WAYS = (
    Way("torch"),
    Way("torch bfloat16", model_kwargs={"dtype": "bfloat16"}),
    Way("torch int8", model_kwargs={"quantize": "int8"}),
    Way("onnx", "onnx"),
    Way(
        "onnx int8",
        "onnx",
        {"file_name": f"model_{INT8}.onnx"},
        _onnx_int8,
        f"export_dynamic_quantized_onnx_model(model, {onnx_instructions()!r}, folder, file_suffix={INT8!r})",
    ),
    Way("openvino", "openvino"),
)
"""The first one is what the others are compared with."""


@dataclass(frozen=True)
class Measured:
    """What was found out about a way.

    Attributes:
        way: which.
        texts_per_second: over all texts, in batches. speed: times that of the first way, median of turns.
        single_ms: milliseconds for one text, median. load_s: seconds to open the model.
        quality: against the first way; None of the first way itself.
        refused: why it was not measured, else None.
    """

    way: Way
    texts_per_second: float = 0.0
    speed: float = 0.0
    single_ms: float = 0.0
    load_s: float = 0.0
    quality: Quality | None = None
    refused: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        quality = self.quality and {name: getattr(self.quality, name) for name in ("cosine", "worst", "order", "texts")}
        if self.refused is not None:
            return {"way": self.way.name, "refused": self.refused}
        numbers = {name: round(getattr(self, name), 4) for name in ("texts_per_second", "speed", "single_ms", "load_s")}
        return {"way": self.way.name, "arguments": self.way.arguments, **numbers, "quality": quality}


@dataclass(frozen=True)
class Recommendation:
    """The race, and who won it.

    Attributes:
        rows: what was found out about each way, in the order of ``WAYS``.
        best: the fastest way whose answers are good enough.
        tolerance: how much of the order of similarities it may lose.
        texts: how many texts were encoded in a turn.
    """

    rows: tuple[Measured, ...]
    best: Measured
    tolerance: float
    texts: int

    def __str__(self) -> str:
        return f"{self.table()}\n\n{self.sentence()}"

    def sentence(self) -> str:
        """The recommendation in a sentence."""
        way = self.best.way
        if self.best is self.rows[0]:
            return f"Recommended: {way.name}, as it is; nothing here is {WORTH:.2f} times as fast and as good."
        speed = f"{self.best.speed:.2f} times the speed of {self.rows[0].way.name}"
        how = f"{way.arguments}, after {way.made_by}" if way.made_by else way.arguments
        return f"Recommended: {way.name} ({how}): {speed}; {self.best.quality}."

    def table(self) -> str:
        """A line for each way, for people."""
        head = ["way", "texts/s", "speed", "one text ms", "load s", "cosine", "order"]
        lines = [head, *(_cells(row) for row in self.rows if row.refused is None)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        text = [_aligned(line, widths) for line in lines]
        text += [f"{row.way.name}: not here. {row.refused}" for row in self.rows if row.refused is not None]
        return "\n".join(text)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = [row.to_dict() for row in self.rows]
        return {"recommended": self.best.to_dict(), "tolerance": self.tolerance, "texts": self.texts, "ways": rows}

    def draw(self, path: str | Path) -> None:
        """Write a PNG: a bar for the speed of every way, with what it loses. Raises: ImportError without matplotlib."""
        what = "Drawing the speeds"
        figures = need("matplotlib.figure", extra="train", what=what)
        canvases = need("matplotlib.backends.backend_agg", extra="train", what=what)
        rows = [row for row in self.rows if row.refused is None][::-1]
        figure = figures.Figure(figsize=(8.0, 1.0 + 0.5 * len(rows)), dpi=100, layout="constrained")
        canvases.FigureCanvasAgg(figure)
        axis = figure.subplots()
        colours = [COLOUR if row.way == self.best.way else PALE for row in rows]
        bars = axis.barh([row.way.name for row in rows], [row.texts_per_second for row in rows], color=colours)
        axis.bar_label(bars, [_label(row) for row in rows], padding=4, fontsize=8)
        axis.set_xlabel(f"texts per second ({self.texts} texts); dark: recommended")
        axis.margins(x=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, format="png", pil_kwargs={"optimize": True})


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join([first.strip().ljust(widths[0]), *others])


def _cells(row: Measured) -> list[str]:
    quality = row.quality
    cosine = "-" if quality is None or quality.cosine is None else f"{quality.cosine:.4f}"
    order = "-" if quality is None else f"{quality.order:.4f}"
    numbers = (f"{row.texts_per_second:,.0f}", f"{row.speed:.2f}", f"{row.single_ms:.1f}", f"{row.load_s:.2f}")
    return [row.way.name, *numbers, cosine, order]


def _label(row: Measured) -> str:
    kept = "" if row.quality is None else f", order {row.quality.order:.4f}"
    return f"{row.speed:.2f} x{kept}"


def recommend(
    model: Any,
    texts: Sequence[str] | None = None,
    *,
    ways: Sequence[str] | None = None,
    rounds: int = 5,
    batch_size: int = 32,
    tolerance: float = 0.01,
) -> Recommendation:
    """Race the ways of computing a model on this machine, and recommend one.

    The model is saved to a temporary folder and opened from there in every way, so it is measured as it is now, and is
    not changed. Ways whose packages are not installed, or that are not for this model, are named with the reason.

    Args:
        model: an encoder of any kind; a reranker scores every text with another one.
        texts: what is usual for the user; the first 1,000 count. None: a sample of some 300 short texts.
        ways: names of ``WAYS`` to try beside the first; None: all.
        rounds: turns of every way.
        batch_size: the most texts of a batch.
        tolerance: by how much the order of similarities (Spearman's correlation with the first way) may be below 1.

    Raises: ValueError for no texts, or an unknown way.
    """
    given = list(sample() if texts is None else texts)[:MOST_TEXTS]
    if len(given) < 4:
        raise ValueError(f"recommend needs at least 4 texts to compare ways with, got {len(given)}.")
    names = [way.name for way in WAYS]
    wanted = names if ways is None else [names[0], *(one_of("ways", name, names) for name in ways)]
    positive("rounds", rounds)
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        model.save_pretrained(folder, create_model_card=False)
        race = _Race(type(model), Path(folder), str(model.device), given, rounds, batch_size)
        rows = tuple(race.measure(way) for way in WAYS if way.name in wanted)
    good = [row for row in rows[1:] if row.quality is not None and row.quality.order >= 1 - tolerance]
    fast = [row for row in good if row.speed >= WORTH]
    best = max(fast, key=lambda row: row.speed, default=rows[0])
    return Recommendation(rows, best, tolerance, len(given))


class _Race:
    """The first way is measured first, and kept to take turns with the others."""

    def __init__(
        self, encoder: type[Any], folder: Path, device: str, texts: list[str], rounds: int, batch_size: int
    ) -> None:
        self.encoder, self.folder, self.device, self.texts = encoder, folder, device, texts
        self.rounds, self.batch_size = rounds, batch_size
        self.first: Any = None
        self.exact: Answers | None = None

    def measure(self, way: Way) -> Measured:
        logger.info("Measuring %s.", way.name)
        if self.first is None:
            return self._measure(way)
        try:
            return self._measure(way)
        except REFUSED as reason:
            return Measured(way, refused=" ".join(str(reason).split()))

    def _measure(self, way: Way) -> Measured:
        if way.prepare is not None:
            way.prepare(self.first, self.folder)
        start = time.perf_counter()
        model = self.encoder(
            str(self.folder), device=self.device, backend=way.backend, model_kwargs=dict(way.model_kwargs)
        )
        loaded = time.perf_counter() - start
        found = answers(model, self.texts)
        if self.exact is None:
            self.first, self.exact, quality = model, found, None
        else:
            quality = compare(self.exact, found)
        pairs = [(self._seconds(self.first), self._seconds(model)) for _ in range(self.rounds)]
        single = median(self._single(model, text) for text in self.texts[:SINGLES])
        speed = median(first / own for first, own in pairs) if model is not self.first else 1.0
        per_second = len(self.texts) / median(own for _, own in pairs)
        return Measured(way, per_second, speed, 1000 * single, loaded, quality)

    def _seconds(self, model: Any) -> float:
        start = time.perf_counter()
        self._compute(model, self.texts)
        return time.perf_counter() - start

    def _single(self, model: Any, text: str) -> float:
        start = time.perf_counter()
        self._compute(model, [text])
        return time.perf_counter() - start

    def _compute(self, model: Any, texts: list[str]) -> None:
        options = {"batch_size": self.batch_size, "show_progress_bar": False, "on_truncate": "ignore"}
        if hasattr(model, "predict"):
            model.predict([(text, self.texts[(i + 3) % len(self.texts)]) for i, text in enumerate(texts)], **options)
        else:
            model.encode(texts, **options)
