"""The table of families: what kind of network a ``config.json`` describes, and which tensor plays which role.

A family is data: a reader of its config (a dozen numbers and flags, ``Spec``) and the names of its tensors
(``Names``). To add a family, add a row to ``FAMILIES``. Knows nothing of files or of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sentence_transformers.backend.native.heads import FEATURES, Head, read_head

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Names:
    """Names of tensors in a checkpoint, without ``.weight`` / ``.bias``; ``{i}`` is the layer number.

    More than one name in ``qkv`` or ``up`` are projections that run as one, in this order.
    """

    words: str
    qkv: tuple[str, ...]
    out: str
    attention_norm: str
    up: tuple[str, ...]
    down: str
    mlp_norm: str
    positions: str | None = None
    types: str | None = None
    embedding_norm: str | None = None
    embedding_projection: str | None = None
    relative_bias: str | None = None
    query_norm: str | None = None
    key_norm: str | None = None
    final_norm: str | None = None
    prefixes: tuple[str, ...] = ()  # what a checkpoint with a task head puts before every name


@dataclass(frozen=True)
class Spec:
    """Everything the encoder needs to know about a network besides its weights."""

    family: str
    vocabulary: int
    width: int
    embedding_width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    inner: int
    activation: str
    epsilon: float
    norm: Literal["layer", "rms"] = "layer"
    norm_first: bool = False
    gated: bool = False
    causal: bool = False
    positions: Literal["absolute", "rotary"] = "absolute"
    max_positions: int = 512
    padding_id: int | None = None  # set where the first position is padding_id + 1 (RoBERTa, MPNet)
    types: int = 0
    relative_buckets: int = 0
    windows: tuple[int | None, ...] = ()  # per layer: a token sees keys at distance < window; None = all
    thetas: tuple[float, ...] = ()  # per layer: base of the rotary frequencies
    attention_bias: bool = True
    out_bias: bool = True
    mlp_bias: bool = True
    norm_bias: bool = True
    first_norm: bool = True  # False: layer 0 has no norm before attention (ModernBERT)
    head: Head | None = None
    names: Names = field(repr=False, default=None)  # type: ignore[assignment]

    @property
    def position_limit(self) -> int | None:
        """The most tokens of one sequence; None where positions are rotary and have no table."""
        if self.positions == "rotary":
            return None
        return self.max_positions - (0 if self.padding_id is None else self.padding_id + 1)


class Unsupported(Exception):
    """This configuration is outside the table; the message says why."""


WITH_TYPES = ("bert", "electra")
"""Families whose tokenizers give segment numbers."""
ACTIVATIONS = frozenset(
    {"gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu", "swish", "tanh"}
)


def _bert(config: Config, *, padding: bool = False, types: int = 2) -> Spec:
    width = config["hidden_size"]
    return Spec(
        family=config["model_type"],
        vocabulary=config["vocab_size"],
        width=width,
        embedding_width=config.get("embedding_size", 128) if config["model_type"] == "electra" else width,
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_attention_heads"],
        head_width=width // config["num_attention_heads"],
        inner=config["intermediate_size"],
        activation=config.get("hidden_act", "gelu"),
        epsilon=config.get("layer_norm_eps", 1e-12),
        max_positions=config.get("max_position_embeddings", 512),
        padding_id=_value(config, "pad_token_id", 1) if padding else None,
        types=config.get("type_vocab_size", types) if types else 0,
    )


def _roberta(config: Config) -> Spec:
    return _bert(config, padding=True)


def _mpnet(config: Config) -> Spec:
    spec = _bert(config, padding=True, types=0)
    # MPNet's embedding layer counts positions from 2 whatever its padding token is called
    return replace(spec, padding_id=1, relative_buckets=config.get("relative_attention_num_buckets", 32))


def _distilbert(config: Config) -> Spec:
    width, heads = config["dim"], config["n_heads"]
    return Spec(
        family="distilbert",
        vocabulary=config["vocab_size"],
        width=width,
        embedding_width=width,
        layers=config["n_layers"],
        heads=heads,
        kv_heads=heads,
        head_width=width // heads,
        inner=config["hidden_dim"],
        activation=config.get("activation", "gelu"),
        epsilon=1e-12,
        max_positions=config.get("max_position_embeddings", 512),
    )


def _modernbert(config: Config) -> Spec:
    width, heads, layers = config["hidden_size"], config["num_attention_heads"], config["num_hidden_layers"]
    every = config.get("global_attn_every_n_layers", 3)
    kinds = config.get("layer_types") or ["sliding_attention" if i % every else "full_attention" for i in range(layers)]
    half = config.get("local_attention", 128) // 2  # a token sees keys at distance <= half
    theta = {
        kind: _theta(config, default, nested=kind, legacy=legacy)
        for kind, default, legacy in (
            ("full_attention", 160_000.0, "global_rope_theta"),
            ("sliding_attention", 10_000.0, "local_rope_theta"),
        )
    }
    return Spec(
        family="modernbert",
        vocabulary=config["vocab_size"],
        width=width,
        embedding_width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_width=width // heads,
        inner=config["intermediate_size"],
        activation=config.get("hidden_activation", "gelu"),
        epsilon=config.get("norm_eps", 1e-5),
        norm_first=True,
        gated=True,
        positions="rotary",
        max_positions=config.get("max_position_embeddings", 8192),
        windows=tuple(half + 1 if kind == "sliding_attention" else None for kind in kinds),
        thetas=tuple(theta[kind] for kind in kinds),
        attention_bias=config.get("attention_bias", False),
        out_bias=config.get("attention_bias", False),
        mlp_bias=config.get("mlp_bias", False),
        norm_bias=config.get("norm_bias", False),
        first_norm=False,
    )


def _decoder(config: Config) -> Spec:
    width, heads, layers = config["hidden_size"], config["num_attention_heads"], config["num_hidden_layers"]
    kind = config["model_type"]
    theta = _theta(config, 10_000.0)
    bias = bool(config.get("attention_bias", False))
    causal, windows = bool(_value(config, "is_causal", True)), _decoder_windows(config, layers)
    if not causal and any(windows):
        raise Unsupported("a window that sees both ways")
    return Spec(
        family=kind,
        vocabulary=config["vocab_size"],
        width=width,
        embedding_width=width,
        layers=layers,
        heads=heads,
        kv_heads=_value(config, "num_key_value_heads", 8 if kind == "mistral" else heads),
        head_width=_value(config, "head_dim", 128 if kind == "qwen3" else width // heads),
        inner=config["intermediate_size"],
        activation=config.get("hidden_act", "silu"),
        epsilon=config.get("rms_norm_eps", 1e-6),
        norm="rms",
        norm_first=True,
        gated=True,
        causal=causal,
        positions="rotary",
        max_positions=config.get("max_position_embeddings", 2048),
        windows=windows,
        thetas=(theta,) * layers,
        attention_bias=bias,
        out_bias=bias,
        mlp_bias=bool(config.get("mlp_bias", False)),
        norm_bias=False,
    )


def _decoder_windows(config: Config, layers: int) -> tuple[int | None, ...]:
    kind = config["model_type"]
    if kind == "mistral":
        return (config.get("sliding_window", 4096),) * layers
    if kind == "qwen3" and config.get("use_sliding_window", False):
        window = config.get("sliding_window", 4096)
        first = config.get("max_window_layers", 28)
        default = ["sliding_attention" if i >= first else "full_attention" for i in range(layers)]
        types = config.get("layer_types") or default
        return tuple(window if name == "sliding_attention" else None for name in types)
    return (None,) * layers


def _value(config: Config, key: str, default: Any) -> Any:
    """A key that is absent or null means the default."""
    found = config.get(key)
    return default if found is None else found


def _theta(config: Config, default: float, nested: str | None = None, legacy: str = "rope_theta") -> float:
    """The base of the rotary frequencies, from the present (``rope_parameters``) or the old form of the config."""
    parameters = dict(config.get("rope_parameters") or {})
    if nested and nested in parameters:
        parameters = dict(parameters[nested] or {})
    parameters.update(config.get("rope_scaling") or {})
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if kind != "default" or parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise Unsupported(f"rotary positions of type {kind!r}")
    return float(parameters.get("rope_theta") or config.get(legacy) or default)


_BERT_NAMES = Names(
    words="embeddings.word_embeddings",
    positions="embeddings.position_embeddings",
    types="embeddings.token_type_embeddings",
    embedding_norm="embeddings.LayerNorm",
    qkv=tuple(f"encoder.layer.{{i}}.attention.self.{part}" for part in ("query", "key", "value")),
    out="encoder.layer.{i}.attention.output.dense",
    attention_norm="encoder.layer.{i}.attention.output.LayerNorm",
    up=("encoder.layer.{i}.intermediate.dense",),
    down="encoder.layer.{i}.output.dense",
    mlp_norm="encoder.layer.{i}.output.LayerNorm",
    prefixes=("bert.",),
)
_ROBERTA_NAMES = replace(_BERT_NAMES, prefixes=("roberta.",))
_ELECTRA_NAMES = replace(_BERT_NAMES, embedding_projection="embeddings_project", prefixes=("electra.",))
_MPNET_NAMES = replace(
    _BERT_NAMES,
    types=None,
    qkv=tuple(f"encoder.layer.{{i}}.attention.attn.{part}" for part in "qkv"),
    out="encoder.layer.{i}.attention.attn.o",
    attention_norm="encoder.layer.{i}.attention.LayerNorm",
    relative_bias="encoder.relative_attention_bias",
    prefixes=("mpnet.",),
)
_DISTILBERT_NAMES = Names(
    words="embeddings.word_embeddings",
    positions="embeddings.position_embeddings",
    embedding_norm="embeddings.LayerNorm",
    qkv=tuple(f"transformer.layer.{{i}}.attention.{part}_lin" for part in "qkv"),
    out="transformer.layer.{i}.attention.out_lin",
    attention_norm="transformer.layer.{i}.sa_layer_norm",
    up=("transformer.layer.{i}.ffn.lin1",),
    down="transformer.layer.{i}.ffn.lin2",
    mlp_norm="transformer.layer.{i}.output_layer_norm",
    prefixes=("distilbert.",),
)
_MODERNBERT_NAMES = Names(
    words="embeddings.tok_embeddings",
    embedding_norm="embeddings.norm",
    qkv=("layers.{i}.attn.Wqkv",),
    out="layers.{i}.attn.Wo",
    attention_norm="layers.{i}.attn_norm",
    up=("layers.{i}.mlp.Wi",),
    down="layers.{i}.mlp.Wo",
    mlp_norm="layers.{i}.mlp_norm",
    final_norm="final_norm",
    prefixes=("model.",),
)
_DECODER_NAMES = Names(
    words="embed_tokens",
    qkv=tuple(f"layers.{{i}}.self_attn.{part}_proj" for part in "qkv"),
    out="layers.{i}.self_attn.o_proj",
    attention_norm="layers.{i}.input_layernorm",
    up=("layers.{i}.mlp.gate_proj", "layers.{i}.mlp.up_proj"),
    down="layers.{i}.mlp.down_proj",
    mlp_norm="layers.{i}.post_attention_layernorm",
    final_norm="norm",
    prefixes=("model.",),
)
_QWEN3_NAMES = replace(_DECODER_NAMES, query_norm="layers.{i}.self_attn.q_norm", key_norm="layers.{i}.self_attn.k_norm")

FAMILIES: dict[str, tuple[Callable[[Config], Spec], Names]] = {
    "bert": (_bert, _BERT_NAMES),
    "roberta": (_roberta, _ROBERTA_NAMES),
    "xlm-roberta": (_roberta, _ROBERTA_NAMES),
    "camembert": (_roberta, _ROBERTA_NAMES),
    "electra": (_bert, _ELECTRA_NAMES),
    "mpnet": (_mpnet, _MPNET_NAMES),
    "distilbert": (_distilbert, _DISTILBERT_NAMES),
    "modernbert": (_modernbert, _MODERNBERT_NAMES),
    "qwen3": (_decoder, _QWEN3_NAMES),
    "mistral": (_decoder, _DECODER_NAMES),
    "llama": (_decoder, _DECODER_NAMES),
}


def read_spec(config: Config, task: str = FEATURES) -> Spec:
    """The spec of a network from its ``config.json``.

    Args:
        task: "feature-extraction", or one of ``heads.HEADS``.

    Raises:
        Unsupported: the architecture, or one of its options, is not in the table.
    """
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise Unsupported(f"model_type {kind!r}")
    if config.get("auto_map") or config.get("quantization_config"):
        raise Unsupported("remote code or a quantised checkpoint")
    if config.get("is_decoder") or config.get("add_cross_attention"):
        raise Unsupported("a decoder with cross attention")
    if config.get("position_embedding_type", "absolute") not in ("absolute", None):
        raise Unsupported(f"position_embedding_type {config['position_embedding_type']!r}")
    reader, names = FAMILIES[kind]
    try:
        spec = reader(config)
        head = read_head(task, kind, config, spec.width, spec.embedding_width)
    except (KeyError, TypeError, ZeroDivisionError) as odd:  # transformers reads it, or says what is wrong with it
        raise Unsupported(f"a config.json without what the table needs ({odd!r})") from odd
    for activation in (spec.activation, *([head.activation] if head else [])):
        if activation not in ACTIVATIONS:
            raise Unsupported(f"activation {activation!r}")
    if head is None and task != FEATURES:
        raise Unsupported(f"{kind} for {task}")
    if spec.embedding_width == spec.width:
        names = replace(names, embedding_projection=None)
    return replace(spec, names=names, head=head)
