"""The table of heads: what comes after the encoder for a task, and which tensor plays which role.

A head is data: which tokens it reads, perhaps a dense layer with an activation and a norm, and an output layer. To add
one, add a row. Knows nothing of files or of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Config = Mapping[str, Any]
FEATURES = "feature-extraction"  # the task without a head
CLASSIFY, FILL, GENERATE = "sequence-classification", "fill-mask", "text-generation"


@dataclass(frozen=True)
class Head:
    """How hidden states become logits: ``out(norm(activation(dense(x))))``.

    reads: "all" tokens, the "first", their "mean", or the "last".
    dense, norm, out, bias: names of tensors, without ``.weight`` / ``.bias``; ``bias`` is the whole name of a second
        place for the bias of ``out``. dense, norm: None where the head has none.
    tied: an output matrix that is not there is the word embeddings.
    rows: of the output: labels, or words. inner: of the dense layer.
    padding_id: tokens that are not the last one, whatever stands behind them.
    """

    reads: Literal["all", "first", "mean", "last"]
    out: str
    dense: str | None = None
    norm: str | None = None
    bias: str | None = None
    activation: str = "gelu"
    dense_bias: bool = True
    norm_bias: bool = True
    out_bias: bool = True
    tied: bool = False
    rows: int = 0
    inner: int = 0
    padding_id: int | None = None


_POOLED = Head("first", "classifier", dense="pooler.dense", activation="tanh")
_OWN_POOLER = Head("first", "classifier.out_proj", dense="classifier.dense", activation="tanh")
_SCORE = Head("last", "score", out_bias=False)
_LM_HEAD = Head("all", "lm_head.decoder", dense="lm_head.dense", norm="lm_head.layer_norm", bias="lm_head.bias")
_CAUSAL = Head("last", "lm_head", out_bias=False)

HEADS: dict[str, dict[str, Head]] = {
    CLASSIFY: {
        "bert": _POOLED,
        "roberta": _OWN_POOLER,
        "xlm-roberta": _OWN_POOLER,
        "camembert": _OWN_POOLER,
        "electra": replace(_OWN_POOLER, activation="gelu"),
        "mpnet": _OWN_POOLER,
        "distilbert": Head("first", "classifier", dense="pre_classifier", activation="relu"),
        "modernbert": Head("first", "classifier", dense="head.dense", norm="head.norm"),
        "qwen3": _SCORE,
        "mistral": _SCORE,
        "llama": _SCORE,
    },
    FILL: {
        "bert": Head(
            "all",
            "cls.predictions.decoder",
            dense="cls.predictions.transform.dense",
            norm="cls.predictions.transform.LayerNorm",
            bias="cls.predictions.bias",
        ),
        "roberta": _LM_HEAD,
        "xlm-roberta": _LM_HEAD,
        "camembert": _LM_HEAD,
        "electra": Head(
            "all", "generator_lm_head", dense="generator_predictions.dense", norm="generator_predictions.LayerNorm"
        ),
        "mpnet": _LM_HEAD,
        "distilbert": Head("all", "vocab_projector", dense="vocab_transform", norm="vocab_layer_norm"),
        "modernbert": Head("all", "decoder", dense="head.dense", norm="head.norm"),
    },
    GENERATE: {"qwen3": _CAUSAL, "mistral": _CAUSAL, "llama": _CAUSAL},
}


def read_head(task: str, family: str, config: Config, width: int, embedding_width: int) -> Head | None:
    """The head of a task, filled in from ``config.json``; None where the table has none.

    Args:
        width, embedding_width: of the encoder and of its word embeddings.
    """
    head = HEADS.get(task, {}).get(family)
    if head is None:
        return None
    if task == CLASSIFY:
        head = replace(head, rows=labels_of(config), inner=width, padding_id=config.get("pad_token_id"))
    else:
        tied = bool(config.get("tie_word_embeddings", task == FILL))
        inner = embedding_width if family == "electra" else width
        head = replace(head, rows=config["vocab_size"], inner=inner, tied=tied)
    change = _CHANGES.get((task, family))
    return head if change is None else change(head, config)


def labels_of(config: Config) -> int:
    """How many labels a classification config has; two unless it says otherwise, as in transformers."""
    if config.get("num_labels") is not None:
        return int(config["num_labels"])
    names = config.get("id2label")
    return 2 if names is None else len(names)


def _modernbert(head: Head, config: Config) -> Head:
    head = replace(
        head,
        activation=config.get("classifier_activation", "gelu"),
        dense_bias=config.get("classifier_bias", False),
        norm_bias=config.get("norm_bias", False),
    )
    if head.reads == "all":
        return replace(head, out_bias=config.get("decoder_bias", True))
    return replace(head, reads="mean" if config.get("classifier_pooling", "cls") == "mean" else "first")


def _configured_activation(key: str) -> Callable[[Head, Config], Head]:
    return lambda head, config: replace(head, activation=config.get(key, "gelu"))


_CHANGES: dict[tuple[str, str], Callable[[Head, Config], Head]] = {
    (CLASSIFY, "modernbert"): _modernbert,
    (FILL, "modernbert"): _modernbert,
    (FILL, "bert"): _configured_activation("hidden_act"),
    (FILL, "distilbert"): _configured_activation("activation"),
}
