"""The activation of a reranker: checked, and by name, in the forms in which models save it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from sentence_transformers._version import __version__
from sentence_transformers.backend.graphs.pretrained import PretrainedGraph
from sentence_transformers.backend.pretrained import Pretrained
from sentence_transformers.hub.trust import fullname, import_from_string

logger = logging.getLogger(__name__)

Activation = Callable[[Tensor], Tensor]
SECTION, ENTRY = "sentence_transformers", "activation_fn"  # in the config.json of versions 4.0 to 5.3
OLDEST = "sbert_ce_default_activation_function"  # in that of versions 2 and 3


def checked(activation: Any) -> Activation:
    """The activation itself.

    Raises: ValueError unless it can be called with scores.
    """
    if isinstance(activation, type) or not callable(activation):
        what = f"the class {activation.__name__}" if isinstance(activation, type) else repr(activation)
        raise ValueError(
            "activation_fn must be something that is called with the scores, such as torch.nn.Sigmoid() or "
            f"torch.sigmoid; got {what}."
        )
    made: Activation = activation
    return made


def name_of(activation: Activation) -> str | None:
    """The dotted path of a class of activation, such as ``torch.nn.modules.activation.Sigmoid``.

    A name is all that is saved. What it loses is warned of; a function has none, so None.
    """
    if not isinstance(activation, nn.Module):
        logger.warning("The activation %r is a function, which is not saved: the default is loaded.", activation)
        return None
    if not _is_default(activation):
        logger.warning("Of the activation %r only the class is saved: it is loaded without arguments.", activation)
    return fullname(activation)


def _is_default(activation: nn.Module) -> bool:
    """Whether its class makes the same activation without arguments."""
    kind = type(activation)
    for parameter in inspect.signature(kind).parameters.values():
        if parameter.default is parameter.empty and parameter.kind.name not in ("VAR_POSITIONAL", "VAR_KEYWORD"):
            return False
    return not any(True for _ in activation.parameters()) and repr(kind()) == repr(activation)


def saved_in(config: Mapping[str, Any]) -> str | None:
    """The name in a ``config.json`` of before version 5.4; None where there is none."""
    section = config.get(SECTION)
    found = section.get(ENTRY) if isinstance(section, Mapping) else None
    found = found or config.get(OLDEST)
    return found if isinstance(found, str) else None


def note_in(pretrained: Pretrained | PretrainedGraph, name: str | None) -> None:
    """Let ``config.json`` say the name (or nothing) the next time it is saved, for readers of versions 4.0 to 5.3."""
    built: Any = pretrained.built
    config = pretrained.config if built is None else vars(built.config)
    config.pop(OLDEST, None)
    config.pop(SECTION, None)
    if name is not None:
        config[SECTION] = {ENTRY: name, "version": __version__}


def of_name(name: str, trust_remote_code: bool) -> Activation | None:
    """An instance of the class; None, with a warning, for what is neither torch's nor trusted, or no activation.

    Raises: ImportError where there is no such class.
    """
    if not name.startswith("torch.") and not trust_remote_code:
        logger.warning(
            "The activation %r of this model is not one of torch: the default is used. Pass trust_remote_code=True if "
            "you trust that code.",
            name,
        )
        return None
    kind = import_from_string(name)
    if not isinstance(kind, type) or not (trust_remote_code or issubclass(kind, nn.Module)):
        logger.warning("The activation %r of this model is no class of activation: the default is used.", name)
        return None
    return checked(kind())
