"""Arguments of before version 5.4 that ``CrossEncoder`` still takes, each with a ``FutureWarning``."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from sentence_transformers.modules.parts import renamed_arguments

F = TypeVar("F", bound=Callable[..., Any])

POSITIONAL = ("num_labels", "max_length", "activation_fn", "device")  # after the name
CALLER = 3  # levels of the stack from a decorator here through that of the new names to the caller


def cross_encoder_arguments(constructor: F) -> F:
    """Decorator of the constructor."""

    @functools.wraps(constructor)
    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        if len(args) > 1 + len(POSITIONAL):
            raise TypeError(
                f"CrossEncoder takes at most {1 + len(POSITIONAL)} positional arguments (model_name_or_path, "
                f"{', '.join(POSITIONAL)}); got {len(args)}."
            )
        for name, value in zip(POSITIONAL, args[1:], strict=False):
            warnings.warn(f"Pass {name} by name: CrossEncoder(..., {name}=...).", FutureWarning, stacklevel=CALLER)
            kwargs.setdefault(name, value)
        if "classifier_dropout" in kwargs:
            dropout = kwargs.pop("classifier_dropout")
            warnings.warn(
                "CrossEncoder(classifier_dropout=...) is now CrossEncoder(config_kwargs={'classifier_dropout': ...}).",
                FutureWarning,
                stacklevel=CALLER,
            )
            if dropout is not None:
                kwargs["config_kwargs"] = {**(kwargs.get("config_kwargs") or {}), "classifier_dropout": dropout}
        constructor(self, *args[:1], **kwargs)

    return renamed_arguments(
        model_name="model_name_or_path",
        automodel_args="model_kwargs",
        tokenizer_args="processor_kwargs",
        tokenizer_kwargs="processor_kwargs",
        config_args="config_kwargs",
        cache_dir="cache_folder",
        default_activation_function="activation_fn",
    )(construct)  # type: ignore[return-value]


def predict_arguments(predict: F) -> F:
    """Decorator of ``predict``."""
    taken: Any = _dropping(predict, "num_workers")
    return renamed_arguments(sentences="inputs", activation_fct="activation_fn")(taken)  # type: ignore[return-value]


def rank_arguments(rank: F) -> F:
    """Decorator of ``rank``, which always gives Python numbers of one label."""
    taken: Any = _dropping(rank, "num_workers", "convert_to_numpy", "convert_to_tensor", "apply_softmax")
    return renamed_arguments(activation_fct="activation_fn")(taken)  # type: ignore[return-value]


def _dropping(method: F, *names: str) -> F:
    """Decorator: arguments that have no effect any more."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        for name in names:
            if name in kwargs:
                warnings.warn(f"{method.__qualname__}({name}=...) has no effect.", FutureWarning, stacklevel=CALLER)
                del kwargs[name]
        return method(*args, **kwargs)

    return call  # type: ignore[return-value]
