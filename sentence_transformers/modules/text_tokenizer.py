"""The tokenizer of a model as its users and its engine see it: one transformers tokenizer, one fast processor.

The transformers tokenizer is built when somebody asks for it. What is then changed on it (added tokens, limits,
sides) is taken over by the processor before the next call.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from sentence_transformers.errors import one_of
from sentence_transformers.hub.paths import stamp
from sentence_transformers.modules import tokenizer_files
from sentence_transformers.modules.processing import PAIR_TRUNCATIONS, PairTruncation, TextProcessor
from sentence_transformers.modules.tokenizer_files import CONFIG_FILE, RUST_FILE, Tokenization

logger = logging.getLogger(__name__)

HONOURED = frozenset({"max_length", "truncation"})
WITHOUT_EFFECT = frozenset({"padding", "pad_to_multiple_of", "return_tensors"})  # there is no padding
_building = threading.RLock()


class TextTokenizer:
    """Tokenizes the texts of one model.

    Args:
        folder: holds the tokenizer files.
        settings: anything ``AutoTokenizer.from_pretrained`` takes.
        with_types: whether the network takes segment numbers; None lets the transformers tokenizer say.
        limit: the most tokens of an input; None takes the smaller of the tokenizer's limit and ``positions``.
        positions: how many positions the network has, if it is limited.
        lower: lower-case the input first.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        *,
        with_types: bool | None,
        limit: int | None,
        positions: int | None,
        lower: bool,
        trust_remote_code: bool,
    ) -> None:
        self.folder, self.settings = folder, settings
        self.with_types, self.lower, self.trust_remote_code = with_types, lower, trust_remote_code
        self._built: Any = None
        self._seen: tuple[Any, ...] = ()
        self._processor: TextProcessor | None = None
        self._stamp = stamp(folder / RUST_FILE)
        self.config = tokenizer_files.read_config(folder)
        found = None if with_types is None else tokenizer_files.read(folder, settings, with_types)
        if found is None:
            self._built = self._build()
            found = tokenizer_files.from_transformers(self._built, with_types)
        if limit is None and "model_max_length" in settings:
            limit = tokenizer_files.as_limit(settings["model_max_length"])
        elif limit is None:
            own = found.limit if found else tokenizer_files.as_limit(self._built.model_max_length)
            limit = min((n for n in (own, positions) if n is not None and n > 0), default=None)
        self._install(found, limit)

    def _build(self) -> Any:
        from transformers import AutoTokenizer

        settings = {key: value for key, value in self.settings.items() if key != "use_fast"}
        if self.trust_remote_code:
            settings["trust_remote_code"] = True
        if self._folder_is_as_read():
            tokenizer_files.check_present(self.folder)
            return AutoTokenizer.from_pretrained(str(self.folder), **settings)
        with TemporaryDirectory() as folder:
            self._write(Path(folder))
            return AutoTokenizer.from_pretrained(folder, **settings)

    def _folder_is_as_read(self) -> bool:
        return self._processor is None or self._stamp == stamp(self.folder / RUST_FILE)

    def _write(self, target: Path) -> None:
        """Write the files of the tokenizer in use, for when its folder is gone or holds another one now."""
        assert self._processor is not None
        self._processor.tokenizer.save(str(target / RUST_FILE))
        write_json(target / CONFIG_FILE, self.config)

    def _install(self, found: Tokenization | None, limit: int | None) -> None:
        """Take a tokenizer into use; one that is written in Python has no processor."""
        processor = None
        if found is not None:
            found = tokenizer_files.lowercase(found) if self.lower else found
            processor = TextProcessor(
                found.tokenizer, limit, found.truncation_side, found.padding_side, found.padding_id, found.with_types
            )
        self._limit, self._processor = limit, processor
        self._tell_limit()

    def _tell_limit(self) -> None:
        if self._built is not None:
            if self._limit is not None:
                self._built.model_max_length = self._limit
            self._seen = self._state(self._built)

    @staticmethod
    def _state(built: Any) -> tuple[Any, ...]:
        sides = built.padding_side, built.truncation_side
        return id(built), len(built), built.model_max_length, built.pad_token_id, *sides

    def _follow(self) -> None:
        """Take over what was changed on the transformers tokenizer."""
        if self._built is None or self._state(self._built) == self._seen:
            return
        with _building:
            if self._state(self._built) != self._seen:  # no other thread was first
                limit = tokenizer_files.as_limit(self._built.model_max_length)
                self._install(tokenizer_files.from_transformers(self._built, self.with_types), limit)

    @property
    def processor(self) -> TextProcessor | None:
        """What the engine uses; None where the tokenizer is written in Python."""
        self._follow()
        return self._processor

    @property
    def transformers(self) -> Any:
        """The transformers tokenizer; built on first use."""
        with _building:
            if self._built is None:
                built = self._build()
                if self._limit is not None:
                    built.model_max_length = self._limit
                self._seen = self._state(built)
                self._built = built  # last: other threads look at it without the lock
            return self._built

    @transformers.setter
    def transformers(self, tokenizer: Any) -> None:
        self._built = tokenizer
        limit = tokenizer_files.as_limit(tokenizer.model_max_length)
        self._install(tokenizer_files.from_transformers(tokenizer, self.with_types), limit)

    @property
    def limit(self) -> int | None:
        """The most tokens of one input; None for no limit."""
        self._follow()
        return self._limit

    @limit.setter
    def limit(self, value: int | None) -> None:
        self._limit = value
        if self._processor is not None:
            self._processor.limit = value
        self._tell_limit()

    def token_id(self, token: str) -> int | None:
        """The number of a token; None for one that is not in the vocabulary."""
        processor = self.processor
        if processor is not None:
            return processor.tokenizer.token_to_id(token)
        found = self.transformers.get_vocab().get(token)
        return None if found is None else int(found)

    def add_special_tokens(self, tokens: list[str]) -> None:
        """Make marks tokens of their own, wherever they stand in a text; they may be in the vocabulary already."""
        with _building:
            built = self.transformers
            built.add_tokens(tokens, special_tokens=True)
            self._install(tokenizer_files.from_transformers(built, self.with_types), self._limit)

    def special_token(self, name: str) -> str | None:
        """The token of a role such as "mask_token" or "eos_token"; None where the tokenizer has none."""
        saved = self.config.get(name) if self._built is None else None
        if saved is None:  # perhaps a default of the tokenizer's class, of which the files say nothing
            saved = getattr(self.transformers, name)
        return str(saved["content"] if isinstance(saved, Mapping) else saved) if saved is not None else None

    def save(self, target: Path) -> None:
        """Write the tokenizer files."""
        if self._built is not None:
            self._built.save_pretrained(str(target))
        elif self._folder_is_as_read():
            tokenizer_files.copy(self.folder, target)
        else:
            self._write(target)
        chosen = {key: value for key, value in self.settings.items() if key in tokenizer_files.SAVED_SETTINGS}
        if self._limit is not None:
            chosen["model_max_length"] = self._limit
        if chosen:
            write_json(target / CONFIG_FILE, {**tokenizer_files.read_config(target), **chosen})


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


class Limits(NamedTuple):
    """How texts are cut.

    max_length: the most tokens of one input, special tokens included; None where nobody says.
    truncation: which text of a too long pair is cut.
    """

    max_length: int | None
    truncation: PairTruncation


def limits_of(*settings: Mapping[str, Any]) -> Limits:
    """How texts are cut by what ``processing_kwargs`` say (later ones win; in one of them "common" wins over "text").

    Only ``max_length`` and ``truncation`` of the parts "common" and "text" change a vector here. Padding never does,
    as there is none; anything else is ignored, which is logged once. ``truncation`` is True ("longest_first"), False
    (or None or "do_not_truncate": no limit, whatever ``max_length`` says), or a name of ``PairTruncation``.

    Raises: ValueError for another ``truncation``.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        for part in sorted(setting, key=lambda name: name == "common"):
            options = setting[part]
            known = HONOURED if part in ("common", "text") else frozenset()
            ignored = sorted(f"{part}.{name}" for name in options.keys() - known - WITHOUT_EFFECT)
            if ignored:
                _log_ignored(tuple(ignored))
            found.update((name, options[name]) for name in known & options.keys())
    truncation = found.get("truncation", True)
    if truncation in (False, None, "do_not_truncate"):
        return Limits(tokenizer_files.NO_LIMIT, "longest_first")
    one_of("truncation", truncation, (True, False, *PAIR_TRUNCATIONS))
    return Limits(found.get("max_length"), "longest_first" if truncation is True else truncation)


@lru_cache
def _log_ignored(names: tuple[str, ...]) -> None:
    logger.warning("processing_kwargs %s have no effect on this model, which reads text alone.", ", ".join(names))
