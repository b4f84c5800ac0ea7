"""Parts that work on every vector by itself: Dense, Normalize, LayerNorm, Dropout; and the mean over layers.

Each reads and writes named features, as (..., D) tensors or as ``Packed`` token embeddings.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from sentence_transformers._types import Features
from sentence_transformers.errors import ModelFileError
from sentence_transformers.hub.trust import fullname, import_from_string
from sentence_transformers.modules.module import Module
from sentence_transformers.modules.parts import ModuleWithWeights, WithDimension, over_vectors, renamed_arguments
from sentence_transformers.ops.tokens import Packed

logger = logging.getLogger(__name__)

SENTENCE = "sentence_embedding"


class Dense(WithDimension, ModuleWithWeights):
    """activation(W x + b), with ``use_residual`` plus x (or R x, where the widths differ).

    Reads ``features[module_input_name]``: (..., in_features); writes ``features[module_output_name]``:
    (..., out_features).

    Args:
        in_features, out_features: the widths.
        bias: whether there is a b.
        activation_function: applied to every number; None is the identity.
        init_weight: (out_features, in_features), the first W.
        init_bias: (out_features,), the first b.
        module_input_name: the feature to read; ``"token_embeddings"`` for every token.
        module_output_name: the feature to write; None overwrites the one that was read.
        use_residual: add the input to the output.

    Raises:
        ValueError: initial weights of another shape.
        KeyError: ``forward`` without the feature to read.
    """

    config_keys: ClassVar[Sequence[str]] = (
        "in_features",
        "out_features",
        "bias",
        "activation_function",
        "module_input_name",
        "module_output_name",
        "use_residual",
    )
    accepts_packed: ClassVar[bool] = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation_function: Callable[[Tensor], Tensor] | None = nn.Tanh(),  # noqa: B008 (has no state)
        init_weight: Tensor | None = None,
        init_bias: Tensor | None = None,
        module_input_name: str = SENTENCE,
        module_output_name: str | None = None,
        use_residual: bool = False,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.bias = bias
        self.activation_function = nn.Identity() if activation_function is None else activation_function
        self.module_input_name = module_input_name
        self.module_output_name = module_input_name if module_output_name is None else module_output_name
        self.use_residual = use_residual
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.residual: nn.Module | None = None
        if use_residual:
            same = in_features == out_features
            self.residual = nn.Identity() if same else nn.Linear(in_features, out_features, bias=False)
        if init_weight is not None:
            self.linear.weight = _parameter("init_weight", init_weight, (out_features, in_features))
        if init_bias is not None:
            self.linear.bias = _parameter("init_bias", init_bias, (out_features,))

    def forward(self, features: Features, **kwargs: Any) -> Features:
        features[self.module_output_name] = over_vectors(features[self.module_input_name], self._project)
        return features

    def _project(self, vectors: Tensor) -> Tensor:
        out = self.activation_function(self.linear(vectors))
        return out if self.residual is None else out + self.residual(vectors)

    def get_embedding_dimension(self) -> int:
        """The width of the output."""
        return self.out_features

    def get_config_dict(self) -> dict[str, Any]:
        """The activation as a dotted path; ``use_residual`` only where it is on, for readers that do not know it."""
        values = {key: getattr(self, key) for key in self.config_keys}
        values["activation_function"] = _path_of(self.activation_function)
        return values if self.use_residual else {key: values[key] for key in self.config_keys[:-1]}

    @classmethod
    def _from_config(cls, config: dict[str, Any], folder: str, trust_remote_code: bool) -> Self:
        known = inspect.signature(cls.__init__).parameters.keys()
        unknown = sorted(config.keys() - known)
        if unknown:
            logger.warning("Ignoring the keys %s in the config of %s in %s.", unknown, cls.__name__, folder)
        arguments = {key: value for key, value in config.items() if key in known}
        if "activation_function" in config:
            arguments["activation_function"] = _activation(config["activation_function"], folder, trust_remote_code)
        return cls.from_config(arguments, folder)


class Normalize(Module):
    """Scale vectors to unit length.

    Reads ``features[module_input_name]``: (..., D); writes ``features[module_output_name]``: (..., D), of L2 length 1
    (zero stays zero). Without the feature to read, nothing happens.
    """

    config_keys: ClassVar[Sequence[str]] = ("module_input_name", "module_output_name")
    accepts_packed: ClassVar[bool] = True

    def __init__(self, module_input_name: str = SENTENCE, module_output_name: str | None = None) -> None:
        super().__init__()
        self.module_input_name = module_input_name
        self.module_output_name = module_input_name if module_output_name is None else module_output_name

    def forward(self, features: Features, **kwargs: Any) -> Features:
        vectors = features.get(self.module_input_name)
        if vectors is not None:
            features[self.module_output_name] = over_vectors(vectors, lambda x: F.normalize(x, dim=-1))
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the config; there are no weights. Old models have neither config nor folder, and load all the same."""
        self.save_config(output_path)


class LayerNorm(WithDimension, ModuleWithWeights):
    """Layer normalisation of ``sentence_embedding``: (B, dimension) -> (B, dimension)."""

    config_keys: ClassVar[Sequence[str]] = ("dimension",)
    accepts_packed: ClassVar[bool] = True

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension
        self.norm = nn.LayerNorm(dimension)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        features[SENTENCE] = self.norm(features[SENTENCE])
        return features

    def get_embedding_dimension(self) -> int:
        """``dimension``."""
        return self.dimension


class Dropout(Module):
    """In training, set numbers of ``sentence_embedding`` to 0 with probability ``dropout`` and scale up the others."""

    config_keys: ClassVar[Sequence[str]] = ("dropout",)
    accepts_packed: ClassVar[bool] = True

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.dropout = dropout
        self.dropout_layer = nn.Dropout(dropout)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        features[SENTENCE] = self.dropout_layer(features[SENTENCE])
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the config; there are no weights."""
        self.save_config(output_path)


class WeightedLayerPooling(WithDimension, ModuleWithWeights):
    """``token_embeddings`` become the weighted mean of the upper layers of the transformer.

    Reads ``all_layer_embeddings``: the embedding layer and then ``num_hidden_layers`` others, each (B, T, D) or
    ``Packed``; without it, nothing happens.

    Args:
        embedding_dimension: D.
        num_hidden_layers: the layers of the transformer, not counting the embedding layer.
        layer_start: the first layer that counts; 0 is the embedding layer.
        layer_weights: (num_hidden_layers + 1 - layer_start,) float; default ones.

    Raises:
        ValueError: ``forward`` with another number of layers.
    """

    config_keys: ClassVar[Sequence[str]] = ("embedding_dimension", "layer_start", "num_hidden_layers")
    config_key_renames: ClassVar[dict[str, str]] = {"word_embedding_dimension": "embedding_dimension"}
    accepts_packed: ClassVar[bool] = True

    @renamed_arguments(word_embedding_dimension="embedding_dimension")
    def __init__(
        self,
        embedding_dimension: int,
        num_hidden_layers: int = 12,
        layer_start: int = 4,
        layer_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.embedding_dimension = embedding_dimension
        self.layer_start = layer_start
        self.num_hidden_layers = num_hidden_layers
        weights = torch.ones(num_hidden_layers + 1 - layer_start) if layer_weights is None else layer_weights
        self.layer_weights = weights if isinstance(weights, nn.Parameter) else nn.Parameter(weights.float())

    def forward(self, features: Features, **kwargs: Any) -> Features:
        layers = features.get("all_layer_embeddings")
        if layers is None:
            return features
        upper = list(layers)[self.layer_start :]
        if len(upper) != len(self.layer_weights):
            raise ValueError(
                f"WeightedLayerPooling has {len(self.layer_weights)} weights for the layers from {self.layer_start} "
                f"on; got {len(upper)} such layers ({len(layers)} in all). Set num_hidden_layers as in the transformer."
            )
        first = upper[0]
        if isinstance(first, Packed):
            features["token_embeddings"] = first.replace(self._mean([layer.values for layer in upper]))
        else:
            features["token_embeddings"] = self._mean(upper)
        return features

    def _mean(self, layers: Sequence[Tensor]) -> Tensor:
        weights = self.layer_weights.to(layers[0].dtype)
        total = sum(
            (weight * layer for weight, layer in zip(weights, layers, strict=True)), torch.zeros_like(layers[0])
        )
        return total / weights.sum()

    def get_embedding_dimension(self) -> int:
        """``embedding_dimension``."""
        return self.embedding_dimension


def _parameter(name: str, value: Tensor, shape: tuple[int, ...]) -> nn.Parameter:
    if tuple(value.shape) != shape:
        raise ValueError(f"{name} must have the shape {shape}; got {tuple(value.shape)}.")
    return nn.Parameter(value.detach().clone())


def _path_of(activation: Callable[[Tensor], Tensor]) -> str:
    """The dotted path of an activation: of its class, or of the function itself."""
    if isinstance(activation, nn.Module):
        return fullname(activation)
    named = activation if isinstance(getattr(activation, "__name__", None), str) else type(activation)
    return f"{named.__module__}.{named.__name__}"


def _activation(path: str | None, folder: str, trust_remote_code: bool) -> Callable[[Tensor], Tensor] | None:
    """The activation a config names: any class of torch, any code only if it is trusted.

    Raises:
        ModelFileError: torch has no such class of modules.
    """
    if path is None:
        return None
    if not trust_remote_code and not path.startswith("torch."):
        logger.warning(
            "The activation function %r of Dense in %s is not part of torch: using Tanh. If you trust its code, load "
            "the model with trust_remote_code=True.",
            path,
            folder,
        )
        return nn.Tanh()
    try:
        found = import_from_string(path)
    except ImportError as error:
        raise ModelFileError(f"{folder}: there is no activation function {path!r} ({error}).") from error
    if isinstance(found, type) and (trust_remote_code or issubclass(found, nn.Module)):
        made: Callable[[Tensor], Tensor] = found()
        return made
    if trust_remote_code:
        function: Callable[[Tensor], Tensor] = found
        return function
    raise ModelFileError(
        f"{folder}: activation_function must name a class of torch modules, such as 'torch.nn.Tanh'; got {path!r}. "
        "If you trust the model's code, load it with trust_remote_code=True."
    )
