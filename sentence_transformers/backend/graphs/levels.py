"""How far a graph is optimised for onnxruntime: the levels O1 to O4, and configurations of the same meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sentence_transformers.errors import one_of


@dataclass(frozen=True)
class Level:
    """What a graph may hold.

    fused: operators of onnxruntime's own, which no other runtime knows: an activation with the bias before it.
    tanh_gelu: GELU by its tanh formula, which differs by up to 5e-4.
    gpu: attention, and a norm with the sum before it, as one operator of onnxruntime's each. Its kernels for CPUs are
        slower than the plain operators (by 7 % on a small BERT), those for GPUs are faster.
    half: float16 weights and computation, for GPUs.
    """

    fused: bool = False
    tanh_gelu: bool = False
    gpu: bool = False
    half: bool = False


PLAIN = Level()
LEVELS = {
    "O1": PLAIN,
    "O2": Level(fused=True),
    "O3": Level(fused=True, tanh_gelu=True),
    "O4": Level(fused=True, tanh_gelu=True, gpu=True, half=True),
}


def level_of(config: Any) -> Level:
    """The level of a name, or of an object with the fields of an optimisation config of optimum.

    Args:
        config: "O1" ... "O4"; None for no optimisation; or an object. Of its fields these are read:
            ``optimization_level`` (above 1: fused operators), ``optimize_for_gpu``, ``enable_gelu_approximation``,
            ``fp16``, and ``disable_attention_fusion``, which keeps attention written out.

    Raises: ValueError for another name.
    """
    if config is None or isinstance(config, Level):
        return config or PLAIN
    if isinstance(config, str):
        return LEVELS[one_of("optimization_config", config, tuple(LEVELS))]
    level, approximate = getattr(config, "optimization_level", 1), getattr(config, "enable_gelu_approximation", False)
    for_gpu = getattr(config, "optimize_for_gpu", False) and not getattr(config, "disable_attention_fusion", False)
    return Level(
        fused=level > 1,
        tanh_gelu=bool(approximate),
        gpu=bool(for_gpu) and level > 1,
        half=bool(getattr(config, "fp16", False)),
    )
