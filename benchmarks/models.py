"""Model folders that no package brings: a cross-encoder and a SPLADE model, made from all-MiniLM-L6-v2 and chance.

Both sides read the same folder. Weights that are drawn cost as much time as trained ones; what they say means nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
ACTIVE = 200
"""Words of the vocabulary with a weight in a middling passage; published SPLADE models have 100 to 300."""


def cross_encoder(minilm: Path, folder: Path, limit: int) -> Path:
    """Write the six trained layers under a drawn head of one number; scores are logits, so that they spread.

    Args:
        minilm: folder of all-MiniLM-L6-v2.
        folder: where to.
        limit: tokens of a pair; longer ones are cut.

    Returns: ``folder``.
    """
    import torch
    from transformers import BertForSequenceClassification

    _be_quiet()
    torch.manual_seed(0)
    model: Any = BertForSequenceClassification.from_pretrained(minilm, num_labels=1)
    torch.nn.init.normal_(model.classifier.weight)
    torch.nn.init.zeros_(model.classifier.bias)
    model.config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
    return _save(model, minilm, folder, limit)


def splade(minilm: Path, folder: Path, limit: int, texts: Sequence[str]) -> Path:
    """Write a drawn masked language model in the shape of BERT-base.

    The bias of its last product is lowered until half of ``texts`` (a few will do) get ``ACTIVE`` words or fewer.

    Args: as ``cross_encoder``.
    Returns: ``folder``.
    """
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    _be_quiet()
    torch.manual_seed(0)
    model: Any = BertForMaskedLM(BertConfig())  # the defaults are BERT-base: 12 layers of 768, 30,522 words
    tokenizer: Any = AutoTokenizer.from_pretrained(minilm)
    model.eval()
    edges: list[Tensor] = []
    with torch.inference_mode():
        for text in texts:
            logits = model(**tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")).logits[0]
            edges.append(logits.amax(0).topk(ACTIVE + 1).values[-1])
    torch.nn.init.constant_(model.cls.predictions.bias, -float(torch.stack(edges).median()))
    return _save(model, minilm, folder, limit)


def bert_base(minilm: Path, folder: Path) -> Path:
    """Write a drawn encoder in the shape of BERT-base: 12 layers of 768. Args, Returns: as ``cross_encoder``."""
    from transformers import BertConfig, BertModel

    return _drawn(BertModel, BertConfig(), minilm, folder)


def qwen3(minilm: Path, folder: Path) -> Path:
    """Write a drawn decoder in the shape of Qwen3-Embedding-0.6B. Args, Returns: as ``cross_encoder``."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    shape = {"hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8}
    config = Qwen3Config(**shape, head_dim=128, intermediate_size=3072, vocab_size=151_936, tie_word_embeddings=True)
    return _drawn(Qwen3ForCausalLM, config, minilm, folder)


def _drawn(kind: Any, config: Any, minilm: Path, folder: Path) -> Path:
    import torch

    _be_quiet()
    torch.manual_seed(0)
    return _save(kind(config), minilm, folder, 512)


def _be_quiet() -> None:
    """That the head is not in the weights, and bars, need not be told."""
    from transformers.utils import logging

    told: Any = logging
    told.set_verbosity_error()
    told.disable_progress_bar()


def _save(model: Any, minilm: Path, folder: Path, limit: int) -> Path:
    model.save_pretrained(folder)
    for name in TOKENIZER:
        shutil.copyfile(minilm / name, folder / name)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, "model_max_length": limit}), encoding="utf-8")
    return folder
