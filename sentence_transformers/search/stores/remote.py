"""What stores in a search service have in common: they are opened, made when there is something to keep, and left."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import asdict
from threading import RLock
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from .base import Match, Settings, Store, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

FORMAT = 1


class RemoteStore(Store):
    """A store in a service, where it has a name. It is made there with the first rows, or at once if a width is given.

    What another client keeps is found at once, but if it is the first of its kind (dense or sparse), and there were
    rows of the other kind when this store was opened, only after it is opened again. Several threads may use a store.

    Args:
        name: of the collection, or index.
        client: one that stays open when the store is closed, or None.
        connect: makes one that is closed with the store.
        asked: settings.
    """

    def __init__(self, name: str, client: Any | None, connect: Callable[[], Any], asked: Settings) -> None:
        self.name = name
        self.client = connect() if client is None else client
        self._is_ours = client is None
        self._lock = RLock()
        try:
            here = self._read()
            settings = (here or Settings()).agree(asked)
            super().__init__(settings)
            if settings != here and _has_width(settings):
                self._prepare(settings)
        except BaseException:
            self.close()
            raise

    @property
    def settings(self) -> Settings:
        """What holds for all rows."""
        if not _has_width(self._settings):
            self._settings = (self._read() or Settings()).agree(self._settings)
        return self._settings

    def persist(self) -> None:
        """Nothing to do: rows are kept once they are acknowledged."""

    def close(self) -> None:
        """Close the connection, unless the client was given."""
        if self._is_ours:
            self.client.close()

    @property
    def _is_there(self) -> bool:
        """Whether it is in the service already."""
        return _has_width(self.settings)

    def _prepare(self, settings: Settings) -> None:
        with self._lock:  # the first rows of two threads must not both make it
            here = self._read()
            if here is None:
                self._create(settings)
            elif here != here.agree(settings):
                self._change(here, here.agree(settings))

    @abstractmethod
    def _create(self, settings: Settings) -> None:
        """Make it in the service."""

    @abstractmethod
    def _change(self, here: Settings, settings: Settings) -> None:
        """What is there gets other settings, with widths or notes that were not known before."""

    @abstractmethod
    def _read(self) -> Settings | None:
        """The settings of what is there; None if there is nothing. Raises: StoreError if it is not a store."""


def _has_width(settings: Settings) -> bool:
    return settings.width is not None or settings.sparse_width is not None


def row_key(row_id: str) -> str:
    """The id of a row in a service, which may not take every string: a UUID, always the same."""
    return str(uuid5(NAMESPACE_URL, row_id))


def note(settings: Settings) -> dict[str, Any]:
    """Settings, to be kept in the service beside its own schema."""
    return {"format": FORMAT, **asdict(settings), "notes": dict(settings.notes)}


def from_note(found: Mapping[str, Any] | None, where: str) -> Settings:
    """What ``note`` kept.

    Args:
        found: None if there was no note. where: the place, as the start of a sentence.

    Raises: StoreError if there was none, or it is of a newer version.
    """
    if found is None:
        raise StoreError(f"{where} was not made by this library, or its service keeps no notes. Choose another name.")
    if found["format"] > FORMAT:
        raise StoreError(
            f"{where} has format {found['format']}, and this version of sentence-transformers reads up to {FORMAT}. "
            "Update it."
        )
    return Settings(found["similarity"], found["width"], found["sparse_width"], found["notes"])


def connection(options: dict[str, Any], places: Collection[str], default: dict[str, Any]) -> dict[str, Any]:
    """Options of a client; the ``default`` ones too, unless they say where the service is."""
    return options if set(places) & options.keys() else {**default, **options}


def refuse_options(client: Any | None, options: dict[str, Any]) -> None:
    """Raises: ValueError if there are options for a client that is there already."""
    if client is not None and options:
        raise ValueError(f"Got a client, and options for another one: {', '.join(options)}. Leave one of them out.")


def match(source: Mapping[str, Any], score: float) -> Match:
    """A row as it was kept: "id", "text", "metadata"."""
    return Match(source["id"], score, source["text"], dict(source["metadata"]))
