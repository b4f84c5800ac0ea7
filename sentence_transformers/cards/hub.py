"""What the Hugging Face Hub knows about a model or a dataset: one request each, and never a failure."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

from ..hub import download
from ..hub.cache import is_offline
from ..hub.source import REPOSITORY

logger = logging.getLogger(__name__)

LOCAL_DATA = frozenset({"csv", "json", "parquet", "text", "arrow", "generator", "imagefolder", "audiofolder"})
"""Names that ``datasets`` gives to data of files; no datasets of the Hub."""


@dataclass(frozen=True)
class Answer:
    """id: as the Hub spells it. languages: codes of its card. commit: the newest one."""

    id: str
    languages: tuple[str, ...] = ()
    commit: str | None = None


def is_id(name: str) -> bool:
    """Whether this can be the name of a repository."""
    return REPOSITORY.fullmatch(name) is not None


def ask(kind: Literal["model", "dataset"], name: str, revision: str | None = None) -> Answer | None:
    """What the Hub says about a repository; None where it says that there is none.

    What it cannot be asked, or does not answer, is taken as given: the answer is then the name alone.
    """
    if not is_id(name) or (kind == "dataset" and name in LOCAL_DATA):
        return None
    if is_offline():
        return Answer(name)
    try:
        with download.explained(name, revision):
            api = download.api(None)
            info = (api.model_info if kind == "model" else api.dataset_info)(
                name, revision=revision, timeout=download.TIMEOUT
            )
    except FileNotFoundError as error:
        logger.info("For the model card: %s", error)
        return None
    except OSError as error:
        logger.info("The model card says about %s what is known without the Hub: %s", name, error)
        return Answer(name)
    data: Any = info.card_data
    languages = getattr(data, "language", None) or ()
    return Answer(
        str(info.id), (languages,) if isinstance(languages, str) else tuple(str(one) for one in languages), info.sha
    )
