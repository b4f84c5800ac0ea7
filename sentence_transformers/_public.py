"""THE TABLE: every public name and path, and the file of ours that answers it. Data only; ``_lazy`` serves it.

One row adds a name. A target is ``"package.module:Name"`` below ``sentence_transformers``; all paths here are too.
"""

from __future__ import annotations

from sentence_transformers._public_training import (
    BASE_EVALUATORS,
    BASE_TRAINING,
    CROSS_EVALUATORS,
    CROSS_LOSSES,
    CROSS_TRAINING,
    DATASETS,
    DENSE_TRAINING,
    EVALUATORS,
    LATE_EVALUATORS,
    LATE_LOSSES,
    LATE_TRAINING,
    LATER_LOSSES,
    LOSS_DATA,
    LOSSES,
    OLD_CROSS_LOSSES,
    READERS,
    SAMPLERS,
    SPARSE_CALLBACKS,
    SPARSE_EVALUATORS,
    SPARSE_LOSSES,
    SPARSE_TRAINING,
    TRAINING_ROWS,
)

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

# --- Modules of the other encoders, the same way: they are importable from ``<encoder>.models.<Class>`` where that path
# ever was, and from ``<encoder>.modules``.

SPARSE_MODULES = {
    "MLMTransformer": ("modules.legacy", "sparse_encoder.modules.mlm_transformer"),
    "SparseAutoEncoder": ("modules.sparse_autoencoder", "sparse_encoder.modules.sparse_auto_encoder"),
    "SparseStaticEmbedding": ("modules.sparse_static", "sparse_encoder.modules.sparse_static_embedding"),
    "SpladePooling": ("modules.splade", "sparse_encoder.modules.splade_pooling"),
}
CROSS_MODULES = {"LogitScore": ("modules.heads", "cross_encoder.modules.logit_score")}
LATE_MODULES = {
    "MultiVectorMask": ("modules.late", "multi_vector_encoder.modules.multi_vector_mask"),
    "BaseTokenPooling": ("modules.token_pooling", "multi_vector_encoder.modules.token_pooling"),
    "HierarchicalTokenPooling": ("modules.token_pooling", "multi_vector_encoder.modules.token_pooling"),
    "LambdaTokenPooling": ("modules.token_pooling", "multi_vector_encoder.modules.token_pooling"),
}

TOKENIZERS = {  # class -> (our file, its own path since 5.4)
    "PhraseTokenizer": ("modules.tokenizers", "sentence_transformer.modules.tokenizer.phrase"),
    "WhitespaceTokenizer": ("modules.tokenizers", "sentence_transformer.modules.tokenizer.whitespace"),
    "WordTokenizer": ("modules.tokenizers", "sentence_transformer.modules.tokenizer.word"),
}

# --- Names that several namespaces show.

DENSE = _from("encoders.dense", "SentenceTransformer")
DENSE_CARD = {"SentenceTransformerModelCardData": "cards.data:SentenceTransformerModelCardData"}
SPARSE = _from("encoders.sparse", "SparseEncoder")
SPARSE_CARD = {"SparseEncoderModelCardData": "cards.data:SparseEncoderModelCardData"}
CROSS = _from("encoders.cross", "CrossEncoder")
CROSS_CARD = {"CrossEncoderModelCardData": "cards.data:CrossEncoderModelCardData"}
LATE = _from("encoders.multi_vector", "MultiVectorEncoder")
LATE_CARD = {"MultiVectorEncoderModelCardData": "cards.data:MultiVectorEncoderModelCardData"}
EXPORTING = _from(
    "encoders.exporting",
    "export_dynamic_quantized_onnx_model",
    "export_optimized_onnx_model",
    "export_static_quantized_openvino_model",
)
QUANTIZATION = _from("ops.quantize", "quantize_embeddings")
VECTORS = _from("search.vectors", "semantic_search_faiss", "semantic_search_usearch")  # never in the flat util
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
PADDING = _from(
    "ops.padding",
    "_move_tensors_to_cpu",
    "cat_padded_token_embeddings",
    "repad_flattened_features",
    "stack_padded_token_embeddings",
)
SPARSE_EXPORTS = _from("ops.sparse", "to_indices_values", "to_scipy_csr")
RETRIEVAL = {
    **_from("search.semantic", "information_retrieval", "semantic_search"),
    **_from("search.paraphrase", "paraphrase_mining", "paraphrase_mining_embeddings"),
    **_from("search.clusters", "community_detection", "threshold_clusters"),
}
MINING = _from("search.mining", "mine_hard_negatives")
IDS = _from("search.resolve", "resolve_ids")
LATE_SCORES = _from(
    "ops.late_scores",
    "XTRKDScores",
    "XTRScores",
    "colbert_kd_scores",
    "colbert_scores",
    "colbert_scores_pairwise",
    "mean_colbert_kd_scores",
    "mean_colbert_scores",
    "mean_colbert_scores_pairwise",
    "xtr_kd_scores",
    "xtr_scores",
    "xtr_scores_pairwise",
)
ENGINES = _from(
    "search.engines",
    "semantic_search_elasticsearch",
    "semantic_search_opensearch",
    "semantic_search_qdrant",
    "semantic_search_seismic",
)
STORES = {
    **_from("search.index", "Index"),
    **_from("search.stores.base", "Match", "Settings", "Store", "StoreError", "VectorStore"),
    **_from("search.stores.embedded", "EmbeddedStore"),
    **_from("search.stores.elastic", "ElasticsearchStore"),
    **_from("search.stores.faiss", "FaissStore"),
    **_from("search.stores.postgres", "PostgresStore"),
    **_from("search.stores.qdrant", "QdrantStore"),
    **_from("search.fusion", "reciprocal_rank_fusion"),
}
DISTRIBUTED = _from(
    "ops.gather", "all_gather", "all_gather_padded", "all_gather_with_grad", "get_rank", "get_world_size"
)
LOGS = _from("ops.logs", "LoggingHandler", "install_logger")
DECORATORS = _from("hub.legacy_calls", "save_to_hub_args_decorator")
ENVIRONMENT = {
    **_from("ops.device", "get_device_name"),
    **_from(
        "ops.installed",
        "check_package_availability",
        "is_accelerate_available",
        "is_datasets_available",
        "is_training_available",
    ),
    **_from("ops.gather", "is_dist_initialized"),
    **_from("hub.requirements", "check_version_requirements"),
}
FILE_IO = {
    **_from("hub.source", "is_sentence_transformer_model", "load_dir_path", "load_file_path"),
    **_from("hub.http", "http_get"),
    **_from("ops.logs", "disabled_tqdm"),
}
MISC = {
    **_from("hub.trust", "fullname", "import_from_string"),
    **_from("hub.source", "import_module_class"),
    **_from("hub.names", "ORIGINAL_TRANSFORMER_MODELS"),
    **_from("ops.logs", "disable_logging"),
    **_from("ops.installed", "disable_datasets_caching"),
    **_from("ops.function_names", "similarity_fct_name"),
    **_from("ops.csv_rows", "append_to_last_row"),
}


def _classes(modules: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {name: f"{file}:{name}" for name, (file, _) in modules.items()}


BASE_MODULES = {name: f"{file}:{name}" for name, (file, path) in MODULES.items() if path.startswith("base.")}
DENSE_MODULES = _classes(MODULES)
FAMILIES = {  # package -> its training
    "sentence_transformer": DENSE_TRAINING,
    "cross_encoder": CROSS_TRAINING,
    "sparse_encoder": SPARSE_TRAINING,
    "multi_vector_encoder": LATE_TRAINING,
}
TRAINING = {  # what of training may be imported from the top
    **_classes(
        {name: row for rows in FAMILIES.values() for name, row in rows.items() if not name.endswith("Collator")}
    ),
    **_classes({name: SAMPLERS[name] for name in ("DefaultBatchSampler", "MultiDatasetDefaultBatchSampler")}),
    **_classes({name: DATASETS[name] for name in ("ParallelSentencesDataset", "SentencesDataset")}),
    **_classes({"InputExample": READERS["InputExample"]}),
}
STRATEGIES = _classes({name: SAMPLERS[name] for name in ("BatchSamplers", "MultiDatasetBatchSamplers")})
ADAPTERS = _from("encoders.adapters", "PeftAdapterMixin", "peft_wrapper")
CARD_CALLBACK = _from("training.card_callback", "BaseModelCardCallback")


def _ending(rows: dict[str, tuple[str, str]], end: str) -> dict[str, str]:
    return _classes({name: row for name, row in rows.items() if name.endswith(end)})


def _with_callback(card: dict[str, str]) -> dict[str, str]:
    """The facts of a family's card, and what keeps them up to date in a training."""
    (name,) = card
    return {**card, f"{name.removesuffix('Data')}Callback": CARD_CALLBACK["BaseModelCardCallback"]}


COMMON = {name: BASE_MODULES[name] for name in ("Asym", "Dense", "InputModule", "Module", "Router", "Transformer")}

# --- Namespaces: path -> its rows. A path without a file of ours exists only here; a package of ours that is one has to
# publish itself (``losses``, ``evaluation``).

NAMES: dict[str, dict[str, str]] = {
    "": {
        **DENSE,
        **DENSE_CARD,
        **SPARSE,
        **SPARSE_CARD,
        **CROSS,
        **CROSS_CARD,
        **LATE,
        **LATE_CARD,
        **QUANTIZATION,
        **MINING,
        **IDS,
        **TRAINING,
        **EXPORTING,
        **_from("encoders.graph_encoder", "GraphEncoder"),
        "LoggingHandler": LOGS["LoggingHandler"],
        "SimilarityFunction": SIMILARITY["SimilarityFunction"],
    },
    "backend": EXPORTING,
    "base": {
        "BaseModel": "encoders.encoder:Encoder",
        "PeftAdapterMixin": ADAPTERS["PeftAdapterMixin"],
        **_classes(BASE_TRAINING),
        **{name: row for name, row in _classes(SAMPLERS).items() if name != "SetEpochMixin"},
    },
    "base.evaluation": _classes(BASE_EVALUATORS),
    "base.model_card": {
        **CARD_CALLBACK,
        **_from("cards.base", "generate_model_card"),
        **_from("cards.environment", "get_versions"),
        "BaseModelCardData": "cards.base:ModelCardData",
    },
    "base.model": {"BaseModel": "encoders.encoder:Encoder"},
    "base.modules": BASE_MODULES,
    "base.peft_mixin": ADAPTERS,
    "evaluation": {
        **_classes(EVALUATORS),
        **_classes(BASE_EVALUATORS),
        "SimilarityFunction": SIMILARITY["SimilarityFunction"],
    },
    "losses": {**_classes(LOSSES), **_classes(LOSS_DATA)},
    "cross_encoder": {**CROSS, **CROSS_CARD, **_classes(CROSS_TRAINING)},
    "cross_encoder.data_collator": _ending(CROSS_TRAINING, "DataCollator"),
    "cross_encoder.evaluation": _classes(CROSS_EVALUATORS),
    "cross_encoder.losses": _classes(CROSS_LOSSES),
    "cross_encoder.model_card": _with_callback(CROSS_CARD),
    "cross_encoder.modules": {**COMMON, **_classes(CROSS_MODULES)},
    "cross_encoder.training_args": {**_ending(CROSS_TRAINING, "Arguments"), **STRATEGIES},
    "multi_vector_encoder": {
        **LATE,
        **LATE_CARD,
        **_classes(LATE_TRAINING),
        **_from("ops.maxsim", "maxsim", "maxsim_pairwise"),
    },
    "multi_vector_encoder.data_collator": _ending(LATE_TRAINING, "DataCollator"),
    "multi_vector_encoder.evaluation": _classes(LATE_EVALUATORS),
    "multi_vector_encoder.losses": _classes(LATE_LOSSES),
    "multi_vector_encoder.model_card": _with_callback(LATE_CARD),
    "multi_vector_encoder.modules": _classes(LATE_MODULES),
    "multi_vector_encoder.modules.token_pooling": _classes(
        {name: row for name, row in LATE_MODULES.items() if name != "MultiVectorMask"}
    ),
    "multi_vector_encoder.scoring": LATE_SCORES,
    "multi_vector_encoder.training_args": {**_ending(LATE_TRAINING, "Arguments"), **STRATEGIES},
    "sparse_encoder": {**SPARSE, **SPARSE_CARD, **_classes(SPARSE_TRAINING)},
    "sparse_encoder.callbacks": _classes(SPARSE_CALLBACKS),
    "sparse_encoder.data_collator": _ending(SPARSE_TRAINING, "DataCollator"),
    "sparse_encoder.evaluation": _classes(SPARSE_EVALUATORS),
    "sparse_encoder.losses": _classes(SPARSE_LOSSES),
    "sparse_encoder.model_card": _with_callback(SPARSE_CARD),
    "sparse_encoder.search_engines": ENGINES,
    "sparse_encoder.modules": {**COMMON, **_classes(SPARSE_MODULES)},
    "sparse_encoder.training_args": {**_ending(SPARSE_TRAINING, "Arguments"), **STRATEGIES},
    "sentence_transformer": {**DENSE, **DENSE_CARD, **_classes(DENSE_TRAINING)},
    "sentence_transformer.data_collator": _ending(DENSE_TRAINING, "DataCollator"),
    "sentence_transformer.datasets": _classes(DATASETS),
    "sentence_transformer.model_card": {
        **_with_callback(DENSE_CARD),
        "ModelCardCallback": CARD_CALLBACK["BaseModelCardCallback"],
    },
    "sentence_transformer.modules": DENSE_MODULES,
    "sentence_transformer.modules.tokenizer": {
        **_classes(TOKENIZERS),
        **_from("modules.tokenizers", "TransformersTokenizerWrapper"),
        **_from("modules.stop_words", "ENGLISH_STOP_WORDS"),
    },
    "sentence_transformer.readers": _classes(READERS),
    "sentence_transformer.training_args": {**_ending(DENSE_TRAINING, "Arguments"), **STRATEGIES},
    "stores": STORES,
    "util": {
        **SIMILARITY,
        **QUANTIZATION,
        **TENSOR,
        **PADDING,
        **SPARSE_EXPORTS,
        **RETRIEVAL,
        **MINING,
        **IDS,
        **DISTRIBUTED,
        **LOGS,
        **DECORATORS,
        **ENVIRONMENT,
        **FILE_IO,
        **MISC,
    },
    "util.dataset": IDS,
    "util.decorators": DECORATORS,
    "util.distributed": DISTRIBUTED,
    "util.environment": ENVIRONMENT,
    "util.file_io": FILE_IO,
    "util.hard_negatives": MINING,
    "util.logging": LOGS,
    "util.misc": MISC,
    "util.quantization": {**QUANTIZATION, **VECTORS},
    "util.retrieval": RETRIEVAL,
    "util.tensor": {**TENSOR, **PADDING},
}

# --- Other names of one file: path -> the file or namespace it is. Both are the same module object.

ALIASES: dict[str, str] = {
    "cross_encoder.model": "encoders.cross",
    "multi_vector_encoder.model": "encoders.multi_vector",
    "sentence_transformer.evaluation": "evaluation",
    "sentence_transformer.losses": "losses",
    "sentence_transformer.model": "encoders.dense",
    "sparse_encoder.model": "encoders.sparse",
    "util.similarity": "ops.similarity",
    **{
        path: file
        for file, path in [
            *MODULES.values(),
            *TOKENIZERS.values(),
            *SPARSE_MODULES.values(),
            *CROSS_MODULES.values(),
            LATE_MODULES["MultiVectorMask"],
            *(row for rows in TRAINING_ROWS for row in rows.values()),
        ]
        if path not in NAMES
    },
}

# --- Paths of before 5.4: old -> new. They work the same, and say so once with a DeprecationWarning.

DEPRECATED: dict[str, str] = {
    "SentenceTransformer": "sentence_transformer.model",
    "cross_encoder.CrossEncoder": "cross_encoder.model",
    **{f"cross_encoder.losses.{name}": path for name, (_, path) in CROSS_LOSSES.items() if name in OLD_CROSS_LOSSES},
    **{f"cross_encoder.evaluation.{name}": path for name, (_, path) in CROSS_EVALUATORS.items() if name[:2] == "CE"},
    "sparse_encoder.SparseEncoder": "sparse_encoder.model",
    "sparse_encoder.models": "sparse_encoder.modules",
    **{f"sparse_encoder.models.{name}": path for name, (_, path) in SPARSE_MODULES.items()},
    **{
        f"sparse_encoder.losses.{name}": path
        for name, (_, path) in SPARSE_LOSSES.items()
        if name != "CSRReconstructionLoss"
    },
    **{f"sparse_encoder.evaluation.{name}": path for name, (_, path) in SPARSE_EVALUATORS.items()},
    "LoggingHandler": "util.logging",
    "data_collator": "sentence_transformer.data_collator",
    "datasets": "sentence_transformer.datasets",
    **{f"datasets.{name}": path for name, (_, path) in DATASETS.items()},
    **{f"evaluation.{name}": path for name, (_, path) in EVALUATORS.items() if name != "MSEEvaluatorFromDataFrame"},
    "evaluation.SentenceEvaluator": "base.evaluation.evaluator",
    "evaluation.SequentialEvaluator": "base.evaluation.sequential",
    "evaluation.SimilarityFunction": "util.similarity",
    **{f"losses.{name}": path for name, (_, path) in LOSSES.items() if name not in LATER_LOSSES},
    "model_card": "sentence_transformer.model_card",
    "models": "sentence_transformer.modules",
    **{f"models.{name}": path for name, (_, path) in MODULES.items()},
    "models.tokenizer": "sentence_transformer.modules.tokenizer",
    **{f"models.tokenizer.{name}": path for name, (_, path) in TOKENIZERS.items()},
    "peft_mixin": "base.peft_mixin",
    "quantization": "util.quantization",
    "readers": "sentence_transformer.readers",
    **{f"readers.{name}": path for name, (_, path) in READERS.items() if name != "STSBenchmarkDataReader"},
    "sampler": "base.sampler",
    "trainer": "sentence_transformer.trainer",
    "training_args": "sentence_transformer.training_args",
    "sentence_transformer.modules.normalize": "base.modules.normalize",
    "similarity_functions": "util.similarity",
}

# --- What modules.json calls a class: where it is -> the classic path, which every version of every reader understands;
# a class without one is called by its own path.

SAVE_AS: dict[str, str] = {
    **{f"{ROOT}.{file}.{name}": f"{ROOT}.models.{name}" for name, (file, _) in MODULES.items()},
    **{f"{ROOT}.{file}.{name}": f"{ROOT}.sparse_encoder.models.{name}" for name, (file, _) in SPARSE_MODULES.items()},
    **{
        f"{ROOT}.{file}.{name}": f"{ROOT}.{path}.{name}"
        for name, (file, path) in {**CROSS_MODULES, **LATE_MODULES}.items()
    },
}
