"""THE TABLE: every public name and path, and the file of ours that answers it. Data only; ``_lazy`` serves it.

One row adds a name. A target is ``"package.module:Name"`` below ``sentence_transformers``; all paths here are too.
"""

from __future__ import annotations

ROOT = "sentence_transformers"


def _from(file: str, *names: str) -> dict[str, str]:
    """Rows for names that all live in one file."""
    return {name: f"{file}:{name}" for name in names}


# --- Modules: class -> (our file, its own path since 5.4). The class may also be imported from that path, from
# ``models.<Class>`` (one file a class, as it was before 5.4), and is saved as ``models.<Class>``.

MODULES = {
    "Transformer": ("modules.transformer", "base.modules.transformer"),
    "Dense": ("modules.linear", "base.modules.dense"),
    "InputModule": ("modules.module", "base.modules.input_module"),
    "Module": ("modules.module", "base.modules.module"),
    "Normalize": ("modules.linear", "base.modules.normalize"),
    "Asym": ("modules.router", "base.modules.router"),
    "Router": ("modules.router", "base.modules.router"),
    "BoW": ("modules.words", "sentence_transformer.modules.bow"),
    "CNN": ("modules.recurrent", "sentence_transformer.modules.cnn"),
    "Dropout": ("modules.linear", "sentence_transformer.modules.dropout"),
    "LayerNorm": ("modules.linear", "sentence_transformer.modules.layer_norm"),
    "LSTM": ("modules.recurrent", "sentence_transformer.modules.lstm"),
    "Pooling": ("modules.pooling", "sentence_transformer.modules.pooling"),
    "StaticEmbedding": ("modules.static", "sentence_transformer.modules.static_embedding"),
    "WeightedLayerPooling": ("modules.linear", "sentence_transformer.modules.weighted_layer_pooling"),
    "WordEmbeddings": ("modules.words", "sentence_transformer.modules.word_embeddings"),
    "WordWeights": ("modules.words", "sentence_transformer.modules.word_weights"),
}

TOKENIZERS = {  # class -> (our file, its own path since 5.4)
    "PhraseTokenizer": ("modules.tokenizers", "sentence_transformer.modules.tokenizer.phrase"),
    "WhitespaceTokenizer": ("modules.tokenizers", "sentence_transformer.modules.tokenizer.whitespace"),
    "WordTokenizer": ("modules.tokenizers", "sentence_transformer.modules.tokenizer.word"),
}

# --- Names that several namespaces show.

DENSE = _from("encoders.dense", "SentenceTransformer")
DENSE_CARD = {"SentenceTransformerModelCardData": "cards.data:SentenceTransformerModelCardData"}
QUANTIZATION = _from("ops.quantize", "quantize_embeddings")
SIMILARITY = {
    **_from(
        "ops.similarity",
        "SimilarityFunction",
        "cos_sim",
        "dot_score",
        "euclidean_sim",
        "manhattan_sim",
        "pairwise_angle_sim",
        "pairwise_cos_sim",
        "pairwise_dot_score",
        "pairwise_euclidean_sim",
        "pairwise_manhattan_sim",
        "pytorch_cos_sim",
    ),
    **_from("ops.maxsim", "maxsim", "maxsim_pairwise", "mean_maxsim", "mean_maxsim_pairwise"),
}
TENSOR = _from(
    "ops.tensors",
    "_convert_to_batch",
    "_convert_to_batch_tensor",
    "_convert_to_tensor",
    "batch_to_device",
    "compute_count_vector",
    "normalize_embeddings",
    "select_max_active_dims",
    "to_scipy_coo",
    "truncate_embeddings",
)
ENVIRONMENT = _from("ops.device", "get_device_name")
FILE_IO = {
    **_from("hub.source", "is_sentence_transformer_model", "load_dir_path", "load_file_path"),
    **_from("hub.http", "http_get"),
}
MISC = {
    **_from("hub.trust", "fullname", "import_from_string"),
    **_from("hub.names", "ORIGINAL_TRANSFORMER_MODELS"),
}

BASE_MODULES = {name: f"{file}:{name}" for name, (file, path) in MODULES.items() if path.startswith("base.")}
DENSE_MODULES = {name: f"{file}:{name}" for name, (file, _) in MODULES.items()}

# --- Namespaces: path -> its rows. A path without a file of ours exists only here.

NAMES: dict[str, dict[str, str]] = {
    "": {
        **DENSE,
        **DENSE_CARD,
        **QUANTIZATION,
        "SimilarityFunction": SIMILARITY["SimilarityFunction"],
    },
    "base": {},
    "base.modules": BASE_MODULES,
    "sentence_transformer": {**DENSE, **DENSE_CARD},
    "sentence_transformer.model_card": DENSE_CARD,
    "sentence_transformer.modules": DENSE_MODULES,
    "sentence_transformer.modules.tokenizer": {
        **{name: f"{file}:{name}" for name, (file, _) in TOKENIZERS.items()},
        **_from("modules.tokenizers", "TransformersTokenizerWrapper"),
        **_from("modules.stop_words", "ENGLISH_STOP_WORDS"),
    },
    "util": {**SIMILARITY, **QUANTIZATION, **TENSOR, **ENVIRONMENT, **FILE_IO, **MISC},
    "util.environment": ENVIRONMENT,
    "util.file_io": FILE_IO,
    "util.misc": MISC,
    "util.quantization": QUANTIZATION,
}

# --- Other names of one file: path -> the file or namespace it is. Both are the same module object.

ALIASES: dict[str, str] = {
    "sentence_transformer.model": "encoders.dense",
    "util.similarity": "ops.similarity",
    "util.tensor": "ops.tensors",
    **{path: file for file, path in [*MODULES.values(), *TOKENIZERS.values()]},
}

# --- Paths of before 5.4: old -> new. They work the same, and say so once with a DeprecationWarning.

DEPRECATED: dict[str, str] = {
    "SentenceTransformer": "sentence_transformer.model",
    "model_card": "sentence_transformer.model_card",
    "models": "sentence_transformer.modules",
    **{f"models.{name}": path for name, (_, path) in MODULES.items()},
    "models.tokenizer": "sentence_transformer.modules.tokenizer",
    **{f"models.tokenizer.{name}": path for name, (_, path) in TOKENIZERS.items()},
    "quantization": "util.quantization",
    "sentence_transformer.modules.normalize": "base.modules.normalize",
    "similarity_functions": "util.similarity",
}

# --- What modules.json calls a class: where it is -> the classic path, which every version of every reader understands.

SAVE_AS: dict[str, str] = {f"{ROOT}.{file}.{name}": f"{ROOT}.models.{name}" for name, (file, _) in MODULES.items()}
