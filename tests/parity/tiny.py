"""Small random models of every family, written as folders that AutoModel and SentenceTransformer open.

The recorder and the tests build them with the same code, so that no weights are committed. Every number comes from a
generator seeded with family and parameter name: another order of parameters changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tiny_tokenizers as tok
import torch
from safetensors.torch import load_file
from texts import TINY_PROMPT
from tokenizers import Tokenizer

WINDOW = 64
"""Longest input of every small model, in tokens."""


@dataclass(frozen=True)
class Family:
    """How one architecture is made small.

    Attributes:
        model_class: name in transformers; it decides ``config.architectures``, hence the default pooling.
        model_type: transformers' name of the config.
        tokenizer: builds the tokenizer.
        specials: role (``pad_token``, ``cls_token``, ...) -> token.
        settings: config values besides the common ones.
        position_offset: how many position rows come before the first token's (RoBERTa: 2).
        token_types: the tokenizer hands out ``token_type_ids``.
        padding_side: "left" or "right".
    """

    model_class: str
    model_type: str
    tokenizer: Callable[[], Tokenizer]
    specials: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    position_offset: int = 0
    token_types: bool = False
    padding_side: str = "right"


_ENCODER = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
_DECODER = _ENCODER | {"max_position_embeddings": WINDOW}

_BERT_ROLES = {
    "unk_token": "[UNK]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_ROBERTA_ROLES = {
    "unk_token": "<unk>", "pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>",
    "bos_token": "<s>", "eos_token": "</s>",
}  # fmt: skip
_LLAMA_ROLES = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}


def _bert_word_piece() -> Tokenizer:
    return tok.word_piece(tok.BERT, "[CLS]", "[SEP]")


def _roberta_word_piece() -> Tokenizer:
    return tok.word_piece(tok.ROBERTA, "<s>", "</s>")


def _roberta_unigram() -> Tokenizer:
    return tok.unigram(tok.ROBERTA, "<s>", "</s>")


def _bert_unigram() -> Tokenizer:
    return tok.unigram(tok.BERT, "[CLS]", "[SEP]")


def _starting_bpe() -> Tokenizer:
    return tok.byte_bpe(tok.LLAMA, "<s>", "")


FAMILIES: dict[str, Family] = {
    "bert": Family("BertModel", "bert", _bert_word_piece, _BERT_ROLES, _ENCODER, token_types=True),
    "roberta": Family(
        "RobertaModel", "roberta", lambda: tok.byte_bpe(tok.ROBERTA, "<s>", "</s>"), _ROBERTA_ROLES,
        _ENCODER | {"type_vocab_size": 1}, position_offset=2,
    ),
    "xlm-roberta": Family(
        "XLMRobertaModel", "xlm-roberta", _roberta_unigram, _ROBERTA_ROLES,
        _ENCODER | {"type_vocab_size": 1}, position_offset=2,
    ),
    "camembert": Family(
        "CamembertModel", "camembert", _roberta_unigram, _ROBERTA_ROLES,
        _ENCODER | {"type_vocab_size": 1, "num_hidden_layers": 2}, position_offset=2,
    ),
    "electra": Family(
        "ElectraModel", "electra", _bert_word_piece, _BERT_ROLES, _ENCODER | {"embedding_size": 20}, token_types=True
    ),
    "mpnet": Family(
        "MPNetModel", "mpnet", _roberta_word_piece, _ROBERTA_ROLES,
        _ENCODER, position_offset=2,
    ),
    "distilbert": Family(
        "DistilBertModel", "distilbert", _bert_word_piece, _BERT_ROLES,
        {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48},
    ),
    "modernbert": Family(
        "ModernBertModel", "modernbert", lambda: tok.byte_bpe(tok.BERT, "[CLS]", "[SEP]"), _BERT_ROLES,
        _ENCODER | {"num_hidden_layers": 5, "local_attention": 8, "global_attn_every_n_layers": 3},
    ),
    "qwen3": Family(
        "Qwen3ForCausalLM", "qwen3", lambda: tok.byte_bpe(tok.LLAMA, "", "</s>"), _LLAMA_ROLES,
        _DECODER | {"num_key_value_heads": 2, "head_dim": 12, "tie_word_embeddings": True}, padding_side="left",
    ),
    "mistral": Family(
        "MistralForCausalLM", "mistral", _starting_bpe, _LLAMA_ROLES,
        _DECODER | {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6},
    ),
    "llama": Family("LlamaModel", "llama", _starting_bpe, _LLAMA_ROLES, _DECODER | {"num_key_value_heads": 1}),
    "gpt2": Family(
        "GPT2LMHeadModel", "gpt2", lambda: tok.byte_bpe(tok.GPT2, "", "<|endoftext|>"),
        {"pad_token": "<|endoftext|>", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": WINDOW},
    ),
    "t5": Family(
        "T5EncoderModel", "t5", lambda: tok.unigram(tok.T5, "", "</s>"),
        {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"},
        {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4, "feed_forward_proj": "gated-gelu",
         "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20},
    ),
    "albert": Family(
        "AlbertModel", "albert", _bert_unigram, _BERT_ROLES, _ENCODER | {"embedding_size": 20}, token_types=True
    ),
    "deberta-v2": Family(
        "DebertaV2Model", "deberta-v2", _bert_unigram, _BERT_ROLES,
        _ENCODER | {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["c2p", "p2c"],
                    "type_vocab_size": 0, "norm_rel_ebd": "layer_norm", "share_att_key": True},
        token_types=True,
    ),
}  # fmt: skip


def build(
    family: str,
    folder: str | Path,
    *,
    model_class: str | None = None,
    settings: dict[str, Any] | None = None,
    tokenizer: Tokenizer | None = None,
    adjust: Callable[[torch.nn.Module], None] | None = None,
) -> Path:
    """Write the small model of ``family`` (a key of ``FAMILIES``) into ``folder`` and return the folder.

    No ``modules.json``: an encoder opens it with its default modules. ``model_class``, ``settings`` (config values) and
    ``tokenizer`` replace or extend those of the family; ``adjust`` changes the model after its weights were filled.
    """
    import transformers

    kind = FAMILIES[family]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer or kind.tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", _tokenizer_config(kind))
    values = _model_settings(kind, tokenizer) | (settings or {})
    config = transformers.AutoConfig.for_model(kind.model_type, **values)
    model = getattr(transformers, model_class or kind.model_class)(config)
    set_weights(model, family)
    if adjust is not None:
        adjust(model)
    model.save_pretrained(folder)
    return folder


def build_with_pooling(family: str, folder: str | Path, mode: str, *, include_prompt: bool = True) -> Path:
    """``build``, plus ``modules.json``, a Pooling part of the given mode, and the prompt "find": ``TINY_PROMPT``."""

    folder = build(family, folder)
    parts = [("", "Transformer"), ("1_Pooling", "Pooling")]
    write_json(
        folder / "modules.json",
        [
            {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{name}"}
            for at, (path, name) in enumerate(parts)
        ],
    )
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": WINDOW, "do_lower_case": False})
    width = json.loads((folder / "config.json").read_text("utf-8"))["hidden_size"]
    pooling = {"word_embedding_dimension": width, "include_prompt": include_prompt}
    pooling |= {f"pooling_mode_{name}": name == _OLD_KEYS[mode] for name in _OLD_KEYS.values()}
    (folder / "1_Pooling").mkdir(exist_ok=True)
    write_json(folder / "1_Pooling" / "config.json", pooling)
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "__version__": {},
            "prompts": {"find": TINY_PROMPT},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )
    return folder


_OLD_KEYS = {
    "cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens", "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean_tokens", "lasttoken": "lasttoken",
}  # fmt: skip
"""Pooling mode -> what follows ``pooling_mode_`` in configs before 5.4."""

POOLING_MODES = tuple(_OLD_KEYS)


def set_weights(model: torch.nn.Module, seed: str) -> None:
    """Fill every parameter of ``model`` in place, uniformly, from a generator seeded with ``seed`` and its name.

    Matrices: standard deviation 0.15 (token embeddings 0.5); gains 1 +- 0.3; biases +- 0.2. Uniform numbers are the
    same bits on every processor; normal ones are not.
    """
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode()))
            noise = torch.rand(parameter.shape, generator=generator) * 2 - 1
            if parameter.dim() > 1:
                spread = 0.5 if "embed" in name or name.endswith(("wte.weight", "shared.weight")) else 0.15
                parameter.copy_(noise * (spread * 3**0.5))
            elif name.endswith("bias"):
                parameter.copy_(noise * 0.2)
            else:
                parameter.copy_(noise * 0.3 + 1)


def fingerprint(folder: str | Path) -> str:
    """Short hash of tokenizer and weights; equal when the model was rebuilt identically."""
    folder = Path(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    hashed = hashlib.sha256(json.dumps(tokenizer["model"], sort_keys=True).encode())
    for name, tensor in sorted(load_file(folder / "model.safetensors").items()):
        hashed.update(name.encode())
        hashed.update(tensor.contiguous().numpy().tobytes())
    return hashed.hexdigest()[:16]


def _tokenizer_config(kind: Family) -> dict[str, Any]:
    names = ["input_ids", *(["token_type_ids"] if kind.token_types else []), "attention_mask"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": WINDOW,
        "model_input_names": names,
        "padding_side": kind.padding_side,
        "clean_up_tokenization_spaces": False,
        **kind.specials,
    }


def _model_settings(kind: Family, tokenizer: Tokenizer) -> dict[str, Any]:
    settings = {"vocab_size": tokenizer.get_vocab_size(), **kind.settings}
    if kind.model_type not in {"t5", "gpt2"}:
        settings.setdefault("max_position_embeddings", WINDOW + kind.position_offset)
    for role in ("pad", "bos", "eos", "cls", "sep"):
        token = kind.specials.get(f"{role}_token")
        settings[f"{role}_token_id"] = None if token is None else tokenizer.token_to_id(token)
    return settings


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False), encoding="utf-8")
