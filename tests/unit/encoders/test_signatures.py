"""The signatures that callers see are those of the reference: names, order, defaults."""

from __future__ import annotations

import inspect

import pytest

from sentence_transformers import SentenceTransformer

ENCODE = [
    "inputs",
    "prompt_name",
    "prompt",
    "batch_size",
    "show_progress_bar",
    "output_value",
    "precision",
    "convert_to_numpy",
    "convert_to_tensor",
    "device",
    "normalize_embeddings",
    "truncate_dim",
    "pool",
    "chunk_size",
]
CONSTRUCTOR = {
    "model_name_or_path",
    *[
        "modules",
        "device",
        "prompts",
        "default_prompt_name",
        "cache_folder",
        "trust_remote_code",
        "revision",
        "local_files_only",
        "token",
    ],
    *[
        "model_kwargs",
        "processor_kwargs",
        "config_kwargs",
        "model_card_data",
        "backend",
        "similarity_fn_name",
        "truncate_dim",
    ],
}


@pytest.mark.parametrize("name", ["encode", "encode_query", "encode_document"])
def test_encode_methods_take_these_arguments_in_this_order(name: str) -> None:
    parameters = list(inspect.signature(getattr(SentenceTransformer, name)).parameters.values())
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == ["self", *ENCODE]


def test_constructor_names_every_argument_and_only_the_name_is_positional() -> None:
    parameters = inspect.signature(SentenceTransformer).parameters
    assert parameters.keys() >= CONSTRUCTOR
    assert [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD] == ["model_name_or_path"]
    assert not [p for p in parameters.values() if p.kind is p.VAR_KEYWORD]


def test_an_unknown_argument_of_the_constructor_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'devise'"):
        SentenceTransformer("all-MiniLM-L6-v2", devise="cpu")  # type: ignore[call-arg]
