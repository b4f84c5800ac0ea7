"""Small random models with the files of real ones, to stand in under their names where there is no network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny
import tiny_heads
import tiny_tokenizers as tok
from tokenizers import Tokenizer

WINDOW = 512
WORDS = 30522
"""The size of BERT's vocabulary, which the description names."""


def build_reranker(folder: Path) -> None:
    """As ms-marco-MiniLM-L6-v2: one label, the activation in ``config.json``, no ``modules.json``."""
    settings = {"num_labels": 1, "max_position_embeddings": WINDOW}
    tiny.build("bert", folder, model_class="BertForSequenceClassification", settings=settings, adjust=spread)
    read_further(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["sbert_ce_default_activation_function"] = "torch.nn.modules.linear.Identity"
    tiny.write_json(folder / "config.json", config)


def spread(model: Any) -> None:
    """Scores as far apart as those of the real model; negative, so that no text of the examples stays in its place."""
    model.classifier.weight.data.mul_(-20)


def build_splade(folder: Path) -> None:
    """As splade-cocondenser-ensembledistil: a masked language model, no ``modules.json``."""
    settings = {"num_hidden_layers": 2, "max_position_embeddings": WINDOW}
    tiny.build(
        "bert", folder, model_class="BertForMaskedLM", settings=settings, tokenizer=large_tokenizer(), adjust=lower
    )
    read_further(folder)


def lower(model: Any) -> None:
    """Most words get no weight."""
    model.get_output_embeddings().bias.data.sub_(9.0)


def large_tokenizer() -> Tokenizer:
    """The small WordPiece with words that no text has up to BERT's number."""
    written = json.loads(tok.word_piece(tok.BERT, "[CLS]", "[SEP]").to_str())
    vocabulary = written["model"]["vocab"]
    vocabulary.update({f"unusedword{at}": at for at in range(len(vocabulary), WORDS)})
    return Tokenizer.from_str(json.dumps(written))


def read_further(folder: Path) -> None:
    """The tokenizer's limit is that of the real model."""
    config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    tiny.write_json(folder / "tokenizer_config.json", config | {"model_max_length": WINDOW})


def build_late(folder: Path) -> None:
    """As GTE-ModernColBERT-v1: a ModernBERT, a projection of every token, prompts for both sides."""
    tiny_heads.build_late("modernbert", folder)


def build_bert(folder: Path) -> None:
    """As bert-base-uncased: no ``modules.json``."""
    tiny.build("bert", folder, settings={"max_position_embeddings": WINDOW})
    read_further(folder)


def build_distilbert(folder: Path) -> None:
    """As distilbert-base-uncased: no ``modules.json``, no head."""
    tiny.build("distilbert", folder, settings={"max_position_embeddings": WINDOW})
    read_further(folder)


STAND_INS: dict[str, Callable[[Path], None]] = {
    "cross-encoder/ms-marco-MiniLM-L6-v2": build_reranker,
    "naver/splade-cocondenser-ensembledistil": build_splade,
    "lightonai/GTE-ModernColBERT-v1": build_late,
}
