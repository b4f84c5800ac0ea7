"""What is saved about a ``Transformer`` beside its weights and tokenizer, in every form it was ever saved in.

Knows files and keys; builds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentence_transformers.backend.native.heads import CLASSIFY, FEATURES, FILL, GENERATE
from sentence_transformers.errors import ModelFileError
from sentence_transformers.hub import adapters
from sentence_transformers.hub.json_files import again, kind, read_json
from sentence_transformers.hub.source import Source

CONFIG_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
OUTPUTS = {  # task -> the output of the transformers model that is read, and the feature that it becomes
    FEATURES: ("last_hidden_state", "token_embeddings"),
    CLASSIFY: ("logits", "scores"),
    FILL: ("logits", "token_embeddings"),
    GENERATE: ("logits", "causal_logits"),
}
HUB_KEYS = {
    "token": "token",
    "cache_dir": "cache_folder",
    "revision": "revision",
    "local_files_only": "local_files_only",
}
OLD_NAMES = {
    "model_args": "model_kwargs",
    "tokenizer_args": "processor_kwargs",
    "tokenizer_kwargs": "processor_kwargs",
    "config_args": "config_kwargs",
}
GROUPS = ("model_kwargs", "processor_kwargs", "config_kwargs")
KEYS = (
    "transformer_task",
    "modality_config",
    "module_output_name",
    "processing_kwargs",
    "max_seq_length",
    "do_lower_case",
    "unpad_inputs",
    "query_length",
    "document_length",
    "query_expansion",
)
NUMBERS = ("max_seq_length", "query_length", "document_length")


def read_saved(found: Source, subfolder: str) -> dict[str, Any]:
    """The saved settings under today's names; {} where there are none.

    Raises: ModelFileError for a value of another kind than the constructor takes.
    """
    for name in CONFIG_FILES:
        path = found.file(name, subfolder=subfolder)
        if path is not None:
            saved = read_json(path)
            _check_kinds(saved, path)
            for old, new in OLD_NAMES.items():
                if old in saved:
                    saved.setdefault(new, saved.pop(old))
            return saved
    return {}


def constructor_arguments(
    saved: dict[str, Any], given: dict[str, Any], defaults: dict[str, Any], trust_remote_code: bool
) -> dict[str, Any]:
    """Keyword arguments of the constructor.

    Args:
        saved: of ``read_saved``. given: the three groups of settings of the user, which win.
        defaults: for what is not saved, of the same keys.
    """
    settings: dict[str, Any] = {}
    for name in GROUPS:
        settings[name] = {**(saved.get(name) or {}), **(given.get(name) or {})}
        settings[name].pop("trust_remote_code", None)
    settings["model_kwargs"]["trust_remote_code"] = trust_remote_code
    task = saved.get("transformer_task") or defaults.get("transformer_task") or FEATURES
    read, _ = OUTPUTS[task]
    text_only = {"modality_config": {"text": {"method": "forward", "method_output_name": read}}}  # before version 5.4
    chosen = {**text_only, **defaults, **{key: saved[key] for key in KEYS if saved.get(key) is not None}}
    if "model_max_length" in settings["processor_kwargs"]:
        chosen.pop("max_seq_length", None)
    return {**settings, **chosen}


def with_max_length(processing_kwargs: dict[str, Any] | None, max_length: int) -> dict[str, Any]:
    """The settings of a call with its ``max_length`` among them."""
    given = dict(processing_kwargs or {})
    return {**given, "text": {**(given.get("text") or {}), "max_length": max_length}}


def take_hub_arguments(*settings: dict[str, Any]) -> dict[str, Any]:
    """Take the arguments that say where to find the model out of the settings (they may stand in any of them)."""
    hub: dict[str, Any] = {}
    for group in settings:
        for key, name in HUB_KEYS.items():
            if key in group:
                hub[name] = group.pop(key)
    return hub


def with_base(model_kwargs: dict[str, Any] | None, folder: Path, how: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a model; where its folder has an adapter, with those of ``how`` that say how its base is fetched,
    under the names that the constructor takes."""
    given = model_kwargs or {}
    if not adapters.is_adapter(folder):
        return given
    return {**{key: how[name] for key, name in HUB_KEYS.items() if name in adapters.HOW and name in how}, **given}


def width_of(whole: dict[str, Any], folder: Path) -> int:
    """How wide the token embeddings are, by the config of a model. Raises: ValueError if it does not say."""
    for config in (whole, whole.get("text_config") or {}, whole.get("vision_config") or {}):
        for key in ("hidden_size", "dim", "d_model", "n_embd", "hidden_dim"):
            if isinstance(config.get(key), int):
                return int(config[key])
    raise ValueError(f"The config of {folder} does not say how wide the token embeddings are.")


def _check_kinds(saved: dict[str, Any], path: Path) -> None:
    """Whether the values of ``sentence_bert_config.json`` are what the constructor takes."""
    objects = (*OLD_NAMES, *GROUPS, "processing_kwargs", "modality_config", "query_expansion")
    for key, value in saved.items():
        if value is None:
            continue
        if key in NUMBERS and type(value) is not int:
            expected = "a whole number or null"
        elif key in objects and not isinstance(value, dict):
            expected = "an object"
        elif key == "transformer_task" and value not in tuple(OUTPUTS):
            raise ModelFileError(
                f"{path}: expected 'transformer_task' to be one of {', '.join(OUTPUTS)}; found {value!r}. This version "
                "has no other tasks; if a newer one saved the model: pip install -U sentence-transformers"
            )
        else:
            continue
        raise ModelFileError(f"{path}: expected {key!r} to be {expected}, found {kind(value)}. {again(path)}")
