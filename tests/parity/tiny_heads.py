"""Small models with a head: rerankers, masked-language models and token-level encoders, as folders on disk.

Built from the families of ``tiny``; the recorder and the tests call the same functions, so no weights are committed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import string
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import tiny
import tiny_tokenizers as tok
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

CLASSIFIERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("bert", "BertForSequenceClassification", {}),
    "roberta": ("roberta", "RobertaForSequenceClassification", {}),
    "xlm-roberta": ("xlm-roberta", "XLMRobertaForSequenceClassification", {}),
    "camembert": ("camembert", "CamembertForSequenceClassification", {}),
    "electra": ("electra", "ElectraForSequenceClassification", {}),
    "mpnet": ("mpnet", "MPNetForSequenceClassification", {}),
    "distilbert": ("distilbert", "DistilBertForSequenceClassification", {}),
    "modernbert-cls": ("modernbert", "ModernBertForSequenceClassification", {"classifier_pooling": "cls"}),
    "modernbert-mean": ("modernbert", "ModernBertForSequenceClassification", {"classifier_pooling": "mean"}),
    "albert": ("albert", "AlbertForSequenceClassification", {}),
    "deberta-v2": ("deberta-v2", "DebertaV2ForSequenceClassification", {}),
    "qwen3": ("qwen3", "Qwen3ForSequenceClassification", {}),
    "llama": ("llama", "LlamaForSequenceClassification", {}),
}
"""Name -> family, class in transformers, config values besides the family's."""

MASKED: dict[str, tuple[str, str, dict[str, Any], float]] = {
    "bert": ("bert", "BertForMaskedLM", {}, 6.0),
    "bert-untied": ("bert", "BertForMaskedLM", {"tie_word_embeddings": False}, 1.4),
    "roberta": ("roberta", "RobertaForMaskedLM", {}, 6.0),
    "xlm-roberta": ("xlm-roberta", "XLMRobertaForMaskedLM", {}, 1.4),
    "camembert": ("camembert", "CamembertForMaskedLM", {}, 1.5),
    "electra": ("electra", "ElectraForMaskedLM", {}, 4.0),
    "mpnet": ("mpnet", "MPNetForMaskedLM", {}, 6.0),
    "distilbert": ("distilbert", "DistilBertForMaskedLM", {}, 5.5),
    "modernbert": ("modernbert", "ModernBertForMaskedLM", {}, 5.5),
    "modernbert-unbiased": ("modernbert", "ModernBertForMaskedLM", {"decoder_bias": False}, 0.0),
    "albert": ("albert", "AlbertForMaskedLM", {}, 2.2),
}
"""Name -> family, class in transformers, config values besides the family's, what is taken off every logit's bias."""


def build_classifier(name: str, folder: str | Path, labels: int = 1) -> Path:
    """``*ForSequenceClassification`` of ``CLASSIFIERS[name]``, a bare folder."""
    family, model_class, settings = CLASSIFIERS[name]
    return tiny.build(family, folder, model_class=model_class, settings={"num_labels": labels, **settings})


def build_masked(name: str, folder: str | Path) -> Path:
    """``*ForMaskedLM`` of ``MASKED[name]``, a bare folder; its biases keep most logits below zero."""
    family, model_class, settings, lowered = MASKED[name]

    def lower(model: torch.nn.Module) -> None:
        bias = model.get_output_embeddings().bias  # type: ignore[operator]
        if bias is not None:
            bias.data.sub_(lowered)

    return tiny.build(family, folder, model_class=model_class, settings=settings, adjust=lower)


def answering_tokenizer() -> Tokenizer:
    """The decoders' byte-level BPE with the pieces "yes" and "no", and the marks of chat messages as special tokens."""
    written = json.loads(tok.byte_bpe(tok.LLAMA, "", "</s>").to_str())
    vocabulary, merges = written["model"]["vocab"], written["model"]["merges"]
    for left, right in (("y", "e"), ("ye", "s"), ("n", "o")):
        if left + right not in vocabulary:
            vocabulary[left + right] = len(vocabulary)
            merges.append([left, right])
    tokenizer = Tokenizer.from_str(json.dumps(written))
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return tokenizer


def build_answering(folder: str | Path, template: str | None = None) -> Path:
    """Qwen3ForCausalLM, a bare folder whose tokenizer knows "yes" and "no" and may have a chat template."""
    folder = tiny.build("qwen3", folder, tokenizer=answering_tokenizer())
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def build_answering_saved(folder: str | Path, template: str | None = None) -> Path:
    """``build_answering`` with the modules written down; the answers are "no" and "yes" the other way round."""
    folder = build_answering(folder, template)
    vocabulary = answering_tokenizer().get_vocab()
    reached = {"method": "forward", "method_output_name": "logits"}
    modalities = {"text": reached} if template is None else {"text": reached, "message": reached | {"format": "flat"}}
    backbone = {
        "transformer_task": "text-generation", "modality_config": modalities, "module_output_name": "causal_logits",
    }  # fmt: skip
    score: dict[str, Any] = {"true_token_id": vocabulary["no"], "false_token_id": vocabulary["yes"]}
    score["module_input_name"] = "causal_logits"
    return write_model(folder, "CrossEncoder", backbone, [(LOGIT_SCORE, score, {})])


def build_scoring_dense(folder: str | Path) -> Path:
    """Qwen3 without a language head: the last token's hidden state through a Dense to ``scores``."""
    parts: list[Part] = [
        (POOLING, {"embedding_dimension": 32, "pooling_mode": "lasttoken", "include_prompt": True}, {}),
        dense("scores", 1, "sentence_embedding", "scores", bias=True),
    ]
    return write_model(tiny.build("qwen3", folder), "CrossEncoder", FEATURES, parts)


def build_splade(folder: str | Path, strategy: str, activation: str) -> Path:
    """The masked BERT with a SpladePooling of the given settings."""
    settings = {"pooling_strategy": strategy, "activation_function": activation, "embedding_dimension": None}
    return write_model(build_masked("bert", folder), "SparseEncoder", MASKED_LOGITS, [(SPLADE, settings, {})])


def build_inference_free(folder: str | Path) -> Path:
    """Queries: a random weight for each token; documents: the masked BERT with SpladePooling."""
    folder = Path(folder)
    query, document, pooling = "query_0_SparseStaticEmbedding", "document_0_Transformer", "document_1_SpladePooling"
    build_masked("bert", folder / document)
    tiny.write_json(folder / document / "sentence_bert_config.json", MASKED_LOGITS)
    (folder / pooling).mkdir()
    settings = {"pooling_strategy": "max", "activation_function": "relu", "embedding_dimension": None}
    tiny.write_json(folder / pooling / "config.json", settings)
    (folder / query).mkdir()
    tiny.write_json(folder / query / "config.json", {"frozen": False})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(folder / document / name, folder / query / name)
    count = json.loads((folder / document / "config.json").read_text("utf-8"))["vocab_size"]
    save_file({"weight": uniform("idf", (count,)).abs() * 3}, folder / query / "model.safetensors")
    routes = {
        "types": {query: SPARSE_STATIC, document: TRANSFORMER, pooling: SPLADE},
        "structure": {"query": [query], "document": [document, pooling]},
        "parameters": {"default_route": "document", "allow_empty_key": True, "route_mappings": {}},
    }
    tiny.write_json(folder / "router_config.json", routes)
    tiny.write_json(folder / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": ROUTER}])
    tiny.write_json(folder / "config_sentence_transformers.json", {"model_type": "SparseEncoder", "prompts": {}})
    return folder


def build_csr(folder: str | Path, normalize: bool = False) -> Path:
    """BERT, mean pooling, a SparseAutoEncoder that keeps 8 of 64."""
    weights = {
        "pre_bias": uniform("pre_bias", (32,)) * 0.3,
        "encoder.weight": uniform("encoder", (64, 32)),
        "latent_bias": uniform("latent_bias", (64,)) * 0.2,
        "stats_last_nonzero": torch.zeros(64, dtype=torch.long),
    }
    settings = {
        "input_dim": 32, "hidden_dim": 64, "k": 8, "k_aux": 16, "normalize": normalize, "dead_threshold": 30,
    }  # fmt: skip
    parts: list[Part] = [
        (POOLING, {"embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": True}, {}),
        (AUTO_ENCODER, settings, weights),
    ]
    return write_model(tiny.build("bert", folder), "SparseEncoder", FEATURES, parts)


def build_late(family: str, folder: str | Path, pooled: bool = False, **settings: Any) -> Path:
    """Token vectors of width 16 with a punctuation skiplist; ``settings`` are added to the Transformer's."""
    parts: list[Part] = [
        dense("late", 16, "token_embeddings", "token_embeddings"),
        (MASK, {"skiplist_words": list(string.punctuation), "skiplist_tasks": ["document"]}, {}),
        (NORMALIZE, {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}, {}),
    ]
    if pooled:
        pooling = {"pool_factor": 2, "num_protected_tokens": 1, "normalize_embeddings": True, "tasks": ["document"]}
        parts.append((TOKEN_POOLING, pooling, {}))
    more = {"prompts": {"query": "[Q] ", "document": "[D] "}, "similarity_fn_name": None}
    return write_model(tiny.build(family, folder), "MultiVectorEncoder", FEATURES | settings, parts, more)


def unused_tokenizer() -> Tokenizer:
    """BERT's WordPiece with "[unused0]" and "[unused1]" in the vocabulary, which its splitting never yields."""
    written = json.loads(tok.word_piece(tok.BERT, "[CLS]", "[SEP]").to_str())
    for token in ("[unused0]", "[unused1]"):
        written["model"]["vocab"][token] = len(written["model"]["vocab"])
    return Tokenizer.from_str(json.dumps(written))


def build_pylate(folder: str | Path, **config: Any) -> Path:
    """As PyLate 3 saves: ``model_type`` "ColBERT", its own Dense, the prefixes and lengths in the config."""
    folder = tiny.build("bert", folder, tokenizer=unused_tokenizer())
    _, settings, weights = dense("pylate", 16, "token_embeddings", "token_embeddings")
    settings = {name: value for name, value in settings.items() if not name.startswith("module_")}
    settings["use_residual"] = False
    more = {
        "prompts": {}, "default_prompt_name": None, "similarity_fn_name": "MaxSim",
        "query_prefix": "[unused0] ", "document_prefix": "[unused1] ", "query_length": 12, "document_length": 20,
        "attend_to_expansion_tokens": False, "skiplist_words": list(string.punctuation), **config,
    }  # fmt: skip
    old = {"max_seq_length": 19, "do_lower_case": False}
    parts: list[Part] = [("pylate.models.Dense.Dense", settings, weights)]
    return write_model(folder, "ColBERT", old, parts, more, transformer="sentence_transformers.models.Transformer")


def build_stanford(folder: str | Path, **metadata: Any) -> Path:
    """As ColBERT v2 is published: ``HF_ColBERT``, the projection beside BERT's weights, ``artifact.metadata``."""
    folder = tiny.build("bert", folder, tokenizer=unused_tokenizer())
    config = json.loads((folder / "config.json").read_text("utf-8")) | {"architectures": ["HF_ColBERT"]}
    tiny.write_json(folder / "config.json", config)
    weights = {f"bert.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    weights["linear.weight"] = uniform("stanford", (16, 32)) * 0.3
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    known = {
        "query_token_id": "[unused0]", "doc_token_id": "[unused1]", "query_maxlen": 14, "doc_maxlen": 24,
        "attend_to_mask_tokens": False, "mask_punctuation": True, "dim": 16, "similarity": "cosine",
    }  # fmt: skip
    tiny.write_json(folder / "artifact.metadata", known | metadata)
    return folder


def build_sentence_dense(folder: str | Path) -> Path:
    """A SentenceTransformer with pooling, a Dense to 16, a Normalize and prompts, to be converted."""
    parts: list[Part] = [
        (POOLING, {"embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": True}, {}),
        dense("sentence", 16, "sentence_embedding", "sentence_embedding", bias=True, activation="activation.Tanh"),
        (NORMALIZE, {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}, {}),
    ]
    more = {"prompts": {"query": "ask: ", "document": ""}, "similarity_fn_name": "cosine"}
    return write_model(tiny.build("bert", folder), "SentenceTransformer", FEATURES, parts, more)


TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
ROUTER = "sentence_transformers.base.modules.router.Router"
DENSE = "sentence_transformers.base.modules.dense.Dense"
NORMALIZE = "sentence_transformers.base.modules.normalize.Normalize"
POOLING = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"
LOGIT_SCORE = "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"
SPLADE = "sentence_transformers.sparse_encoder.modules.splade_pooling.SpladePooling"
AUTO_ENCODER = "sentence_transformers.sparse_encoder.modules.sparse_auto_encoder.SparseAutoEncoder"
SPARSE_STATIC = "sentence_transformers.sparse_encoder.modules.sparse_static_embedding.SparseStaticEmbedding"
MASK = "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask"
TOKEN_POOLING = "sentence_transformers.multi_vector_encoder.modules.token_pooling.HierarchicalTokenPooling"

FEATURES: dict[str, Any] = {
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
}
MASKED_LOGITS: dict[str, Any] = {
    "transformer_task": "fill-mask",
    "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
    "module_output_name": "token_embeddings",
}

Part: TypeAlias = tuple[str, dict[str, Any], dict[str, torch.Tensor]]
"""Type string, config, weights (may be empty) of one module after the first."""


def dense(
    seed: str, width: int, source: str, target: str, *, bias: bool = False, activation: str = "linear.Identity"
) -> Part:
    """A Dense from the small models' 32 features, with weights seeded by ``seed``."""
    settings = {
        "in_features": 32, "out_features": width, "bias": bias, "activation_function": f"torch.nn.modules.{activation}",
        "module_input_name": source, "module_output_name": target,
    }  # fmt: skip
    weights = {"linear.weight": uniform(f"{seed}.weight", (width, 32)) * 0.3}
    if bias:
        weights["linear.bias"] = uniform(f"{seed}.bias", (width,)) * 0.2
    return DENSE, settings, weights


def uniform(seed: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Numbers in -1..1, the same bits everywhere."""
    generator = torch.Generator().manual_seed(zlib.crc32(seed.encode()))
    return torch.rand(shape, generator=generator) * 2 - 1


def write_model(
    folder: Path,
    model_type: str,
    backbone: dict[str, Any],
    parts: list[Part],
    more: dict[str, Any] | None = None,
    *,
    transformer: str = TRANSFORMER,
) -> Path:
    """``modules.json``, the encoder's config (``model_type`` and ``more``) and the folders of ``parts``."""
    listed = [{"idx": 0, "name": "0", "path": "", "type": transformer}]
    tiny.write_json(folder / "sentence_bert_config.json", backbone)
    for number, (kind, settings, weights) in enumerate(parts, start=1):
        path = f"{number}_{kind.rsplit('.', 1)[-1]}"
        listed.append({"idx": number, "name": str(number), "path": path, "type": kind})
        (folder / path).mkdir(exist_ok=True)
        tiny.write_json(folder / path / "config.json", settings)
        if weights:
            save_file(weights, folder / path / "model.safetensors")
    tiny.write_json(folder / "modules.json", listed)
    tiny.write_json(folder / "config_sentence_transformers.json", {"model_type": model_type, **(more or {})})
    return folder


def fingerprint(folder: str | Path) -> str:
    """Short hash of every weight file and of the tokenizers' vocabularies under ``folder``."""
    folder = Path(folder)
    hashed = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".safetensors":
            for name, tensor in sorted(load_file(path).items()):
                hashed.update(name.encode() + tensor.contiguous().numpy().tobytes())
        elif path.name == "tokenizer.json":
            written = json.loads(path.read_text("utf-8"))["model"]
            hashed.update(json.dumps(written, sort_keys=True).encode())
    return hashed.hexdigest()[:16]


def build_activation(folder: str | Path, where: str) -> Path:
    """The BERT classifier with an activation written down where one of the versions looked for it."""
    folder = build_classifier("bert", folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    tanh = "torch.nn.modules.activation.Tanh"
    if where == "sentence_transformers":
        config[where] = {"activation_fn": tanh, "version": "4.1.0"}
    elif where == "sbert_ce_default_activation_function":
        config[where] = "torch.nn.modules.linear.Identity"
    elif where == "untrusted":
        config["sentence_transformers"] = {"activation_fn": "somewhere.else.Activation"}
    else:
        return write_model(folder, "CrossEncoder", CLASSIFIED, [], {"activation_fn": tanh, "prompts": {}})
    tiny.write_json(folder / "config.json", config)
    return folder


CLASSIFIED: dict[str, Any] = {
    "transformer_task": "sequence-classification",
    "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
    "module_output_name": "scores",
}

SOURCES: dict[str, Callable[[Path], Path]] = {
    "bare": lambda folder: tiny.build("bert", folder),
    "masked": lambda folder: build_masked("bert", folder),
    "classifier": lambda folder: build_classifier("bert", folder),
    "answering": build_answering,
    "decoder": lambda folder: tiny.build("llama", folder),
    "sentence": lambda folder: tiny.build_with_pooling("bert", folder, "mean"),
    "sentence_dense": build_sentence_dense,
    "splade": lambda folder: build_splade(folder, "max", "relu"),
    "csr": build_csr,
    "late": lambda folder: build_late("bert", folder),
    "reranker": lambda folder: build_activation(folder, "config_sentence_transformers"),
    "scoring_dense": build_scoring_dense,
}
"""Kinds of folders, each of which every encoder is asked to open."""


def encoders() -> tuple[type[Any], ...]:
    """The four public classes, of whichever implementation is installed."""
    from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder

    return SentenceTransformer, CrossEncoder, SparseEncoder, MultiVectorEncoder


def summary(model: Any) -> dict[str, Any]:
    """Module classes, prompts, default prompt and, where the encoder has one, the similarity."""
    found = {
        "parts": [type(part).__name__ for part in model],
        "prompts": model.prompts,
        "default_prompt_name": model.default_prompt_name,
    }
    if type(model).__name__ != "CrossEncoder":
        found["similarity"] = model.similarity_fn_name
    return found
