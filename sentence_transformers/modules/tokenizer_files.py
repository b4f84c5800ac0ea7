"""From the tokenizer files of a model folder to a Rust tokenizer, without transformers wherever that is safe.

transformers 5 rebuilds some tokenizers from their settings rather than from ``tokenizer.json``. Where the two could
differ, its own loader is asked; that costs an import, not correctness.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer, normalizers

from sentence_transformers.errors import ModelFileError
from sentence_transformers.hub.json_files import read_json

Side = Literal["left", "right"]

TYPES = "token_type_ids"
NO_LIMIT = 10**9  # files write "no limit" as a number around 1e30
VERBATIM_CLASSES = {"PreTrainedTokenizerFast", "TokenizersBackend"}  # take tokenizer.json as it is
BYTE_CLASSES = ("RobertaTokenizer", "GPT2Tokenizer")
TYPED_CLASSES = {None, "BertTokenizer", "BertTokenizerFast", "ElectraTokenizer", "ElectraTokenizerFast"}
SIMPLE_SETTINGS = {"model_max_length", "padding_side", "truncation_side", "use_fast", "do_lower_case"}
SAVED_SETTINGS = {"padding_side", "truncation_side", "do_lower_case"}
RUST_FILE, CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"
FILES = (
    RUST_FILE,
    CONFIG_FILE,
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
)


@dataclass(frozen=True)
class Tokenization:
    """What the tokenizer files of a folder say. limit: the most tokens of an input, None where they set none."""

    tokenizer: Tokenizer
    limit: int | None
    truncation_side: Side
    padding_side: Side
    padding_id: int
    with_types: bool


def read(folder: Path, settings: Mapping[str, Any], with_types: bool) -> Tokenization | None:
    """Read the files themselves; None where only transformers' own loader is sure to give the same tokens.

    Args:
        settings: the user's settings, which override those of the folder.
        with_types: whether the model family takes segment numbers; whether the tokenizer gives any is in its files.

    Raises: ModelFileError if a file is damaged.
    """
    path = folder / RUST_FILE
    if not path.is_file() or not set(settings) <= SIMPLE_SETTINGS:
        return None
    config = {**read_config(folder), **settings}
    names = config.get("model_input_names")
    if with_types and names is None and config.get("tokenizer_class") not in TYPED_CLASSES:
        return None  # transformers knows what other classes give
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises nothing narrower
        raise ModelFileError(
            f"{path} is damaged: expected a tokenizer, but {error}. Download the model again."
        ) from error
    if not _is_what_transformers_builds(tokenizer, config):
        return None
    _match_case(tokenizer, config)
    padding = tokenizer.padding or {}
    padding_id = _token_id(tokenizer, config.get("pad_token"))
    return Tokenization(
        tokenizer,
        as_limit(config.get("model_max_length")),
        config.get("truncation_side", "right"),
        config.get("padding_side", padding.get("direction", "right")),
        padding.get("pad_id", 0) if padding_id is None else padding_id,
        with_types and (names is None or TYPES in names),
    )


def from_transformers(tokenizer: Any, with_types: bool | None = None) -> Tokenization | None:
    """The same facts from a transformers tokenizer; None when it has no Rust tokenizer inside."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    return Tokenization(
        Tokenizer.from_str(backend.to_str()),  # transformers sets padding and truncation on its own at every call
        as_limit(tokenizer.model_max_length),
        tokenizer.truncation_side,
        tokenizer.padding_side,
        tokenizer.pad_token_id or 0,
        with_types is not False and TYPES in tokenizer.model_input_names,
    )


def check_present(folder: Path) -> None:
    """Raise ``ModelFileError`` unless a folder holds some file of a tokenizer."""
    if not any((folder / name).is_file() for name in FILES) and not any(folder.glob("*token*")):
        raise ModelFileError(
            f"No tokenizer in {folder}: expected {RUST_FILE}, or files such as vocab.txt, vocab.json with merges.txt, "
            "or a sentencepiece model. Save or download the model again."
        )


def lowercase(found: Tokenization) -> Tokenization:
    """The same tokenizer, changed to lower-case its input first."""
    tokenizer = found.tokenizer
    present = tokenizer.normalizer
    if present is None or "Lowercase" not in type(present).__name__:
        steps = [normalizers.Lowercase()] + ([present] if present is not None else [])
        tokenizer.normalizer = normalizers.Sequence(steps)
    return found


def copy(folder: Path, target: Path) -> None:
    """Copy the tokenizer files of a folder to another."""
    if target.resolve() == folder.resolve():
        return
    for name in FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)


def as_limit(value: Any) -> int | None:
    """A maximum length as a number of tokens; None for the huge numbers that mean "no limit"."""
    return None if value is None or value > NO_LIMIT else int(value)


def read_config(folder: Path) -> dict[str, Any]:
    """The settings of a folder's tokenizer; none where there is no such file."""
    file = folder / CONFIG_FILE
    return read_json(file) if file.is_file() else {}


def _is_what_transformers_builds(tokenizer: Tokenizer, config: Mapping[str, Any]) -> bool:
    if config.get("auto_map") or "add_bos_token" in config or "add_eos_token" in config:
        return False  # remote code, or a template that is rewritten on load
    added = config.get("added_tokens_decoder") or {}
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    if not all(int(number) < size for number in added):
        return False
    if config.get("tokenizer_class") in VERBATIM_CLASSES:
        return True
    parts = (_parts(tokenizer.normalizer), _parts(tokenizer.pre_tokenizer))
    return any(all(map(_fits, wanted, parts)) for wanted in _rebuilt(config))


def _rebuilt(config: Mapping[str, Any]) -> list[tuple[list[dict[str, Any]], ...]]:
    """What the tokenizer classes of our families make, whatever the file says: normalisers and pre-tokenizers."""
    words = ([{"type": "BertNormalizer"}], [{"type": "BertPreTokenizer"}])
    space = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    pieces: list[dict[str, Any]] = [{"type": "WhitespaceSplit"}, space]
    made: list[tuple[list[dict[str, Any]], ...]] = [words, ([{"type": "Precompiled"}], pieces), ([], pieces)]
    if str(config.get("tokenizer_class")).startswith(BYTE_CLASSES):
        start = {"type": "ByteLevel", "add_prefix_space": config.get("add_prefix_space", False), "use_regex": True}
        made.append(([], [start]))
    return made


def _parts(component: Any) -> list[dict[str, Any]]:
    """The settings of a part of a tokenizer, a sequence taken apart."""
    if component is None:
        return []
    whole = json.loads(component.__getstate__())
    return list(whole.get("normalizers") or whole.get("pretokenizers") or [whole])


def _fits(wanted: list[dict[str, Any]], found: list[dict[str, Any]]) -> bool:
    return len(wanted) == len(found) and all(
        all(part.get(key) == value for key, value in need.items()) for need, part in zip(wanted, found, strict=True)
    )


def _match_case(tokenizer: Tokenizer, config: Mapping[str, Any]) -> None:
    """BERT-type tokenizers take their normalisation from the settings, whatever ``tokenizer.json`` says."""
    made_anew = config.get("tokenizer_class") not in VERBATIM_CLASSES
    if made_anew and isinstance(tokenizer.normalizer, normalizers.BertNormalizer):
        for attribute, key in (
            ("lowercase", "do_lower_case"),
            ("strip_accents", "strip_accents"),
            ("handle_chinese_chars", "tokenize_chinese_chars"),
        ):
            if key in config:
                setattr(tokenizer.normalizer, attribute, config[key])


def _token_id(tokenizer: Tokenizer, token: Any) -> int | None:
    """The number of a special token, which files write as a string or as an object with ``content``."""
    content = token.get("content") if isinstance(token, Mapping) else token
    return None if content is None else tokenizer.token_to_id(content)
