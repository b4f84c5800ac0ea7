"""Export an encoder's network: optimised or quantised for onnxruntime, or quantised for OpenVINO.

The file goes into the folder of a saved model, to its repository on the Hub, or into a new folder with all of the
model. It is there whole or not at all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sentence_transformers.backend.graphs.facts import IDS, MASK, TYPES
from sentence_transformers.backend.graphs.levels import Level, level_of
from sentence_transformers.backend.graphs.quantize import quantization_of, quantize_file
from sentence_transformers.backend.graphs.static import Inputs, quantize_to_openvino, settings_of
from sentence_transformers.encoders.cross import CrossEncoder
from sentence_transformers.encoders.dense import SentenceTransformer
from sentence_transformers.encoders.encoder import Encoder
from sentence_transformers.encoders.loading import saved_type
from sentence_transformers.encoders.multi_vector import MultiVectorEncoder
from sentence_transformers.encoders.sparse import SparseEncoder
from sentence_transformers.errors import need
from sentence_transformers.hub import source
from sentence_transformers.hub.folder import staged
from sentence_transformers.hub.push import push_folder
from sentence_transformers.modules.graphs import export

ONNX, OPENVINO = "onnx", "openvino"
FILES = {ONNX: ("model", ".onnx"), OPENVINO: ("openvino_model", ".xml")}
FAMILIES = (SentenceTransformer, CrossEncoder, SparseEncoder, MultiVectorEncoder)
CALIBRATION = ("glue", "sst2", "train", "sentence")  # data set, configuration, split, column
STATIC_SUFFIX = "qint8_quantized"
LONGEST = 384  # tokens of a text for calibration

Write = Callable[[Path], None]  # a graph at the path it is given


def export_optimized_onnx_model(
    model: Encoder | str | None = None,
    optimization_config: Any = "O2",
    model_name_or_path: str | None = None,
    push_to_hub: bool = False,
    create_pr: bool = False,
    file_suffix: str | None = None,
    *,
    model_name: str | None = None,
    output_path: str | Path | None = None,
) -> None:
    """Write ``onnx/model_<suffix>.onnx``: the network of a model, optimised for onnxruntime.

    Either ``model`` or ``model_name`` is given; either ``model_name_or_path`` or ``output_path``.

    Args:
        model: any encoder whose first module is a ``Transformer``; or the name or folder of one, as ``model_name``.
        optimization_config: "O1" (standard operators, for any runtime), "O2" (operators of onnxruntime's own), "O3"
            (GELU by its tanh formula, too), "O4" (float16, for GPUs, too); or an object with the fields of optimum's
            ``OptimizationConfig`` (see ``backend.graphs.levels.level_of``). On a CPU the plain graph is as fast:
            onnxruntime fuses the same when it opens the file.
        model_name_or_path: the folder of the model, where the file is added; it is made. With ``push_to_hub``, the
            name of the repository.
        push_to_hub: upload the file as one commit. create_pr: as a pull request.
        file_suffix: default: the level, or "optimized" for an object.
        model_name: open this model instead.
        output_path: a folder for all of the model; the file in it is ``onnx/model.onnx`` unless there is a
            ``file_suffix``, so that the folder opens with ``backend="onnx"``.

    Raises:
        ValueError: an unknown level; a model whose transformer cannot be exported; both or neither of two arguments.
        ImportError: ``onnx`` or a runtime is not installed.
        OSError: the target cannot be written, or the Hub refuses.
    """
    level = level_of(optimization_config)
    found = _given(model, model_name)
    suffix = optimization_config if isinstance(optimization_config, str) else "optimized"
    target = _Target(ONNX, found, model_name_or_path, output_path, push_to_hub, create_pr)
    target.write(partial(_export, found, level=level), file_suffix, suffix)


def export_dynamic_quantized_onnx_model(
    model: Encoder | str | None = None,
    quantization_config: Any = "avx512_vnni",
    model_name_or_path: str | None = None,
    push_to_hub: bool = False,
    create_pr: bool = False,
    file_suffix: str | None = None,
    *,
    model_name: str | None = None,
    output_path: str | Path | None = None,
) -> None:
    """Write ``onnx/model_<suffix>.onnx``: the network of a model with 8-bit weights, for onnxruntime on a CPU.

    Other arguments and errors: see ``export_optimized_onnx_model``.

    Args:
        quantization_config: the processor: "arm64", "avx2", "avx512" or "avx512_vnni"; or an object with the fields
            of optimum's ``QuantizationConfig`` (see ``backend.graphs.quantize``, which also says how exact it is).
        file_suffix: default: the type of the weights and the processor, such as "qint8_avx512_vnni"; for an object
            "qint8_quantized".
    """
    how = quantization_of(quantization_config)
    found = _given(model, model_name)

    def write(path: Path) -> None:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".exporting-") as folder:
            plain = Path(folder) / "model.onnx"
            _export(found, plain)
            quantize_file(plain, path, how)

    target = _Target(ONNX, found, model_name_or_path, output_path, push_to_hub, create_pr)
    target.write(write, file_suffix, how.suffix)


def export_static_quantized_openvino_model(
    model: Encoder | str | None = None,
    quantization_config: Any = None,
    model_name_or_path: str | None = None,
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    dataset_split: str | None = None,
    column_name: str | None = None,
    push_to_hub: bool = False,
    create_pr: bool = False,
    file_suffix: str | None = STATIC_SUFFIX,
    *,
    calibration_texts: Sequence[str] | None = None,
    model_name: str | None = None,
    output_path: str | Path | None = None,
) -> None:
    """Write ``openvino/openvino_model_<suffix>.xml`` and ``.bin``: the network with 8-bit weights and activations.

    The ranges of activations are those seen on a few hundred texts. Other arguments: see
    ``export_optimized_onnx_model``.

    Args:
        quantization_config: None, a dict or an object with fields of optimum's ``OVQuantizationConfig`` (see
            ``backend.graphs.static.StaticQuantization``).
        dataset_name, dataset_config_name, dataset_split, column_name: where these texts are, for
            ``datasets.load_dataset``: all four or none; default: the sentences of glue's sst2.
        calibration_texts: the texts themselves, instead; such as the model will read.

    Raises:
        ValueError: also for some but not all of the four arguments, or for no text.
        ImportError: also without ``nncf``, and without ``datasets`` unless texts are given.
    """
    settings = settings_of(quantization_config)
    place = (dataset_name, dataset_config_name, dataset_split, column_name)
    given = [part for part in place if part is not None]
    if len(given) not in (0, len(place)):
        raise ValueError(
            "dataset_name, dataset_config_name, dataset_split and column_name must be given together or not at all; "
            f"got {place!r}. For texts of your own, pass calibration_texts=[...]."
        )
    found = _given(model, model_name)

    def samples(count: int) -> Iterator[Inputs]:
        texts = calibration_texts
        if texts is None:
            texts = _calibration_texts(given or CALIBRATION, count)
        return _inputs(found, texts[:count])

    def write(path: Path) -> None:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".exporting-") as folder:
            plain = Path(folder) / "model.onnx"
            _export(found, plain)
            quantize_to_openvino(plain, path, samples, settings)

    target = _Target(OPENVINO, found, model_name_or_path, output_path, push_to_hub, create_pr)
    target.write(write, None if file_suffix == STATIC_SUFFIX else file_suffix, STATIC_SUFFIX)


@dataclass(frozen=True)
class _Target:
    """Where a graph goes: into the folder of a model, to its repository, or into a new folder with the whole model."""

    backend: str
    model: Encoder
    model_name_or_path: str | None
    output_path: str | Path | None
    push_to_hub: bool
    create_pr: bool

    def __post_init__(self) -> None:
        if (self.model_name_or_path is None) == (self.output_path is None):
            raise ValueError(
                "Pass either model_name_or_path (the folder or repository of the model, where the file is added) or "
                f"output_path (a folder for the whole model); got {self.model_name_or_path!r} and {self.output_path!r}."
            )
        if self.output_path is not None and (self.push_to_hub or self.create_pr):
            raise ValueError("output_path is a folder: to upload, pass the repository as model_name_or_path.")

    def write(self, write: Write, suffix: str | None, default: str) -> None:
        """suffix: of the file; None takes the default, or within a whole model none."""
        if self.output_path is not None:
            with staged(self.output_path) as folder:
                whole = folder / ".whole"  # a save stages, too, and would wait for the lock of this folder
                self.model.save(whole)
                for part in whole.iterdir():
                    part.rename(folder / part.name)
                whole.rmdir()
                self._write_into(folder, write, suffix or "")
            return
        if not self.push_to_hub:
            assert self.model_name_or_path is not None
            with staged(self.model_name_or_path) as folder:
                self._write_into(folder, write, suffix or default)
            return
        with tempfile.TemporaryDirectory() as temporary:
            name = self._write_into(Path(temporary), write, suffix or default)
            assert self.model_name_or_path is not None
            push_folder(
                temporary,
                self.model_name_or_path,
                commit_message=f"Add exported {self.backend} model {name!r}",
                exist_ok=True,
                create_pr=self.create_pr,
            )

    def _write_into(self, folder: Path, write: Write, suffix: str) -> str:
        """Returns: the name of the file."""
        stem, extension = FILES[self.backend]
        path = folder / self.backend / f"{stem}{suffix and f'_{suffix}'}{extension}"
        path.parent.mkdir(exist_ok=True)
        write(path)
        return path.name


def _given(model: Any, model_name: str | None) -> Encoder:
    """The model to export."""
    if (model is None) == (model_name is None):
        raise ValueError("Pass either model (an encoder) or model_name (what to open).")
    name = model_name if model is None else model
    if isinstance(name, (str, Path)):
        return _opened(str(name))
    if not isinstance(model, Encoder):
        raise ValueError(
            f"model must be a {', '.join(family.__name__ for family in FAMILIES)}; got a {type(model).__name__}."
        )
    return model


def _opened(name: str) -> Encoder:
    """A saved model as the family that it was saved as; a bare classifier is a reranker."""
    found = source.find(name, organization=SentenceTransformer.default_huggingface_organization)
    known = {kind.model_type: kind for kind in FAMILIES}
    return known.get(saved_type(str(found.folder)), SentenceTransformer)(str(found.folder), device="cpu")


def _export(model: Encoder, path: Path, level: Level | None = None) -> None:
    export(list(model), path, level)


def _calibration_texts(place: Sequence[str], count: int) -> list[str]:
    """The first texts of a data set. place: its name, configuration, split and column."""
    name, config, split, column = place
    datasets = need("datasets", extra="train", what="Calibration on a data set")
    rows = datasets.load_dataset(name, config, split=split)
    if column not in rows.column_names:
        raise ValueError(f"column_name must be one of {rows.column_names}; got {column!r}.")
    return [str(text) for text in rows[:count][column]]


def _inputs(model: Encoder, texts: Iterable[str]) -> Iterator[Inputs]:
    """Every text as the inputs of a graph, alone."""
    longest = min(LONGEST, model.max_seq_length or LONGEST)
    for text in texts:
        features = model.preprocess([text], max_length=longest)
        yield {name: features[name].numpy() for name in (IDS, MASK, TYPES) if name in features}
