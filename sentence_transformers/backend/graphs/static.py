"""OpenVINO graphs: read from ONNX, and quantised to 8 bits with the ranges of activations seen on sample inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from sentence_transformers.backend.graphs.aside import aside
from sentence_transformers.backend.graphs.facts import KEY
from sentence_transformers.errors import need, one_of

Inputs = Mapping[str, np.ndarray[Any, Any]]
EXTRA = "openvino"
WHAT = "A quantised OpenVINO model"
IGNORED = ("bits", "dtype", "quant_method", "dataset", "tokenizer", "processor", "trust_remote_code")
"""Fields of optimum's config that have one meaning here, or that arguments of their own give."""


@dataclass(frozen=True)
class StaticQuantization:
    """Settings of ``nncf.quantize``, under the names of optimum's ``OVQuantizationConfig``.

    num_samples: how many sample inputs are used. sym: symmetric activations too. ignored_scope: arguments of
    ``nncf.IgnoredScope`` (``names``, ``patterns``, ``types``): what stays in float32. overflow_fix: "disable",
    "enable" or "first_layer_only". fast_bias_correction: as there. smooth_quant_alpha: 0 ... 1, or -1 not to smooth:
    on all-MiniLM-L6-v2, the worst cosine of 600 sentences to float32 is then 0.98, with the 0.95 of nncf it is 0.60.
    """

    num_samples: int = 300
    sym: bool = False
    ignored_scope: Mapping[str, Any] | None = None
    overflow_fix: str = "disable"
    smooth_quant_alpha: float = -1.0
    fast_bias_correction: bool = True


def settings_of(config: Any) -> StaticQuantization:
    """Settings from None (all defaults), a dict, or an object with such fields.

    Raises: ValueError for an unknown key of a dict, or for weights that are not of 8 bits.
    """
    if config is None or isinstance(config, StaticQuantization):
        return config or StaticQuantization()
    names = [field.name for field in fields(StaticQuantization)]
    if isinstance(config, Mapping):
        for key in config:
            one_of("a key of quantization_config", key, (*names, *IGNORED))
        given = dict(config)
    else:
        given = {name: getattr(config, name) for name in (*names, "bits") if getattr(config, name, None) is not None}
    one_of("quantization_config.bits", given.get("bits", 8), (8,))
    return StaticQuantization(**{name: given[name] for name in names if given.get(name) is not None})


def openvino_model(source: Path) -> Any:
    """An ONNX file as an ``openvino.Model`` that says of itself what the file says."""
    openvino = need("openvino", extra=EXTRA, what="backend='openvino'")
    onnx = need("onnx", extra="onnx", what="Making an OpenVINO model")
    model = aside(openvino.convert_model, str(source))
    for entry in onnx.load(str(source), load_external_data=False).metadata_props:
        if entry.key == KEY:
            model.set_rt_info(entry.value, KEY)
    return model


def save_openvino(model: Any, target: Path) -> None:
    """Write ``target`` (.xml) and its weights (.bin) as they are, not as float16."""
    openvino = need("openvino", extra=EXTRA, what="backend='openvino'")
    openvino.save_model(model, str(target), compress_to_fp16=False)


def quantize_to_openvino(
    source: Path, target: Path, samples: Callable[[int], Iterable[Inputs]], settings: StaticQuantization
) -> None:
    """Write the quantised OpenVINO form of an ONNX graph.

    Args:
        samples: gives so many inputs of the graph.

    Raises: ImportError without ``openvino``, ``onnx`` and ``nncf``; ValueError where there is no sample.
    """
    nncf = need("nncf", extra=EXTRA, what=WHAT)
    model = openvino_model(source)
    given = [dict(sample) for sample in samples(settings.num_samples)]
    if not given:
        raise ValueError("Static quantisation needs calibration texts, got none.")
    preset = nncf.QuantizationPreset.PERFORMANCE if settings.sym else nncf.QuantizationPreset.MIXED
    smoothing = nncf.AdvancedSmoothQuantParameters(matmul=settings.smooth_quant_alpha)
    advanced = nncf.AdvancedQuantizationParameters(
        overflow_fix=nncf.OverflowFix(settings.overflow_fix), smooth_quant_alphas=smoothing
    )
    scope = settings.ignored_scope
    made = aside(
        nncf.quantize,
        model,
        nncf.Dataset(given),
        subset_size=len(given),
        preset=preset,
        model_type=nncf.ModelType.TRANSFORMER,
        fast_bias_correction=settings.fast_bias_correction,
        ignored_scope=None if scope is None else nncf.IgnoredScope(**scope),
        advanced_parameters=advanced,
    )
    if model.has_rt_info(KEY):
        made.set_rt_info(model.get_rt_info(KEY).astype(str), KEY)
    save_openvino(made, target)
