"""A card is never a reason to fail: what goes wrong while one is written is logged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


@contextmanager
def logged(what: str) -> Iterator[None]:
    """Log any failure inside.

    Args:
        what: what the card lacks then, as the object of a sentence.
    """
    try:
        yield
    # anything may be raised here: by the model, by data and losses of users, by the Hub; a training must not die of it
    except Exception as error:
        logger.warning("The model card lacks %s: %s: %s", what, type(error).__name__, error)
        logger.debug("Where that was raised:", exc_info=True)
