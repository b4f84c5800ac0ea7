"""Losses around a loss: at several widths of the embeddings, behind several layers of the transformer, or both."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backend.native.heads import FEATURES
from ..encoders.encoder import Encoder
from ..modules.transformer import Transformer
from ..ops.tensors import normalize_embeddings
from .base import Components, Features, Loss, Wrapper
from .joining import encoder_of

logger = logging.getLogger(__name__)

LAYER_WEIGHTS: dict[str, Callable[[int], float]] = {
    "uniform": lambda layer: 1.0,
    "log": lambda layer: 1 / (1 + math.log(1 + layer)),
    "linear": lambda layer: 1 / (1 + layer),
}


class MatryoshkaLoss(Wrapper):
    """The sum of a loss at several widths, so that embeddings can be cut off: the first numbers say the most.

    Args:
        model: the encoder to train.
        loss: the loss, of the same model. It gets the first numbers of the embeddings, scaled to unit length, and of
            labels that are as wide as the embeddings (those of a teacher) the first numbers too.
        matryoshka_dims: the widths; the full one should be among them.
        matryoshka_weights: of each width; None: 1.
        n_dims_per_step: this many widths, drawn anew for every batch; not above 0: all.

    Columns and labels: those of the loss.
    Raises: ValueError for no width, or one below 1 or above that of the model, or another number of weights.
    Source: Kusupati et al. 2022, https://arxiv.org/abs/2205.13147
    """

    citations = ("kusupati2022matryoshka",)

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        matryoshka_dims: Sequence[int],
        matryoshka_weights: Sequence[float] | None = None,
        n_dims_per_step: int = -1,
    ) -> None:
        super().__init__(model, loss)
        weights = [1] * len(matryoshka_dims) if matryoshka_weights is None else matryoshka_weights
        _check_widths(model, matryoshka_dims, weights)
        by_width = sorted(zip(matryoshka_dims, weights, strict=True), key=lambda pair: pair[0], reverse=True)
        self.matryoshka_dims = tuple(width for width, _ in by_width)
        self.matryoshka_weights = tuple(weight for _, weight in by_width)
        self.n_dims_per_step = n_dims_per_step

    def compute_loss_from_embeddings(
        self, embeddings: list[Tensor], labels: Tensor | None = None
    ) -> Tensor | Components:
        full = embeddings[0].shape[-1]
        if self.matryoshka_dims[0] > full:
            raise ValueError(
                f"Dimension {self.matryoshka_dims[0]} in matryoshka_dims cannot be greater than the model's embedding "
                f"dimension: {full}"
            )
        places: Sequence[int] = range(len(self.matryoshka_dims))
        if 0 < self.n_dims_per_step < len(places):
            places = sorted(random.sample(places, self.n_dims_per_step))
        return weighted_sum(
            (
                self.matryoshka_weights[place],
                self.loss.compute_loss_from_embeddings(*_narrowed(embeddings, labels, self.matryoshka_dims[place])),
            )
            for place in places
        )


class AdaptiveLayerLoss(Wrapper):
    """A loss behind the last layer and behind earlier ones, so that the upper layers can be taken off.

    In one pass through the transformer; the later modules (pooling, ...) run once for each layer. The loss may use a
    gradient cache; this one must be the outermost.

    Args:
        model: the encoder to train; its first module is a ``Transformer``.
        loss: the loss, of the same model.
        n_layers_per_step: this many earlier layers, drawn anew for every batch; not above 0: all. Layer 0 is the
            embedding layer.
        last_layer_weight: of the loss behind the last layer.
        prior_layers_weight: of the mean of the losses behind the earlier layers.
        kl_div_weight: of the divergence of the embeddings behind each earlier layer, as softmax(embedding / T), from
            those behind the last, which they do not move; summed over the layers, times T.
        kl_temperature: T. Either 0: no divergence.
        layer_weighting: weight of the loss behind layer i: "uniform": 1, "log": 1 / (1 + ln(1 + i)), "linear":
            1 / (1 + i), or a function of i.

    Columns and labels: those of the loss.
    Raises: ValueError for an unknown weighting, or a model that does not begin with a ``Transformer``, or with one that
        has a head (SPLADE, rerankers).
    Source: Li et al. 2024, https://arxiv.org/abs/2402.14776
    """

    citations = ("li2024matryoshka2d",)

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        n_layers_per_step: int = 1,
        last_layer_weight: float = 1.0,
        prior_layers_weight: float = 1.0,
        kl_div_weight: float = 1.0,
        kl_temperature: float = 0.3,
        layer_weighting: str | Callable[[int], float] = "uniform",
    ) -> None:
        super().__init__(model, loss)
        if not callable(layer_weighting) and layer_weighting not in LAYER_WEIGHTS:
            raise ValueError(
                f'layer_weighting must be "uniform", "log", "linear", or a callable, but got {layer_weighting!r}.'
            )
        _modules(model)
        self.n_layers_per_step = n_layers_per_step
        self.last_layer_weight = last_layer_weight
        self.prior_layers_weight = prior_layers_weight
        self.kl_div_weight = kl_div_weight
        self.kl_temperature = kl_temperature
        self.layer_weighting = layer_weighting

    def forward(self, sentence_features: Any, labels: Tensor | None = None) -> Tensor | Components:
        layers = self._drawn(_modules(self.model)[0].config.num_hidden_layers)
        objective, embed = partial(self._objective, layers), partial(self._embed_behind, layers)
        return self.run(list(sentence_features), labels, objective, embed)

    def _drawn(self, count: int) -> list[int]:
        """The earlier layers of this step; the last is layer ``count``."""
        if 0 < self.n_layers_per_step < count:
            return random.sample(range(count), self.n_layers_per_step)
        return list(range(count))

    def _embed_behind(self, layers: Sequence[int], features: Features) -> Tensor:
        """(B, 1 + layers, D): the embeddings behind the last layer, and behind each of ``layers``."""
        transformer, *later = _modules(self.model)
        with _all_layers(transformer):
            last = self.model(dict(features))
        found = [last[self.loss.output_name]]
        for layer in layers:
            below = {**features, transformer.module_output_name: last["all_layer_embeddings"][layer]}
            for module in later:
                below = module(below)
            found.append(below[self.loss.output_name])
        return torch.stack(found, dim=1)

    def _objective(self, layers: Sequence[int], embeddings: list[Tensor], labels: Tensor | None) -> Tensor | Components:
        """The loss of what ``_embed_behind`` made of each column."""
        weighting = self.layer_weighting
        weight_of = weighting if callable(weighting) else LAYER_WEIGHTS[weighting]
        weights = [self.last_layer_weight]
        weights += [self.prior_layers_weight * weight_of(layer) / len(layers) for layer in layers]
        last, *earlier = (list(columns) for columns in zip(*(some.unbind(1) for some in embeddings), strict=True))
        losses = (self.loss.compute_loss_from_embeddings(columns, labels) for columns in (last, *earlier))
        result = weighted_sum(zip(weights, losses, strict=True))
        if not self.kl_div_weight or not self.kl_temperature > 0:
            return result
        target = torch.cat(last).detach()
        apart = torch.stack([divergence(torch.cat(columns), target, self.kl_temperature) for columns in earlier]).sum()
        weighted = self.kl_div_weight * apart
        return result + weighted if isinstance(result, Tensor) else {**result, "kl_div": weighted}

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Any:
        raise NotImplementedError(
            f"{type(self).__name__} needs the layers of the transformer, not only embeddings: make it the outermost "
            "loss, around the others."
        )


class Matryoshka2dLoss(AdaptiveLayerLoss):
    """``AdaptiveLayerLoss`` around ``MatryoshkaLoss`` around a loss: both layers and widths can be taken off.

    Args:
        model: the encoder to train; its first module is a ``Transformer``.
        loss: the loss, of the same model.
        matryoshka_dims, matryoshka_weights, n_dims_per_step: see ``MatryoshkaLoss``.
        n_layers_per_step, last_layer_weight, prior_layers_weight, kl_div_weight, kl_temperature, layer_weighting: see
            ``AdaptiveLayerLoss``.

    Columns and labels: those of the loss.
    Source: Li et al. 2024, https://arxiv.org/abs/2402.14776
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        matryoshka_dims: Sequence[int],
        matryoshka_weights: Sequence[float] | None = None,
        n_layers_per_step: int = 1,
        n_dims_per_step: int = 1,
        last_layer_weight: float = 1.0,
        prior_layers_weight: float = 1.0,
        kl_div_weight: float = 1.0,
        kl_temperature: float = 0.3,
        layer_weighting: str | Callable[[int], float] = "uniform",
    ) -> None:
        super().__init__(
            model,
            MatryoshkaLoss(model, loss, matryoshka_dims, matryoshka_weights, n_dims_per_step),
            n_layers_per_step,
            last_layer_weight,
            prior_layers_weight,
            kl_div_weight,
            kl_temperature,
            layer_weighting,
        )

    def get_config_dict(self) -> dict[str, Any]:
        return {**super().get_config_dict(), **self.loss.get_config_dict()}


def weighted_sum(losses: Iterable[tuple[float, Tensor | Components]]) -> Tensor | Components:
    """The sum of weight * loss; where losses have parts, part by part."""
    found = [(weight, loss if isinstance(loss, dict) else {"": loss}) for weight, loss in losses]
    names = found[0][1]
    parts = {name: torch.stack([weight * loss[name] for weight, loss in found]).sum() for name in names}
    return parts.get("", parts)


def divergence(embeddings: Tensor, target: Tensor, temperature: float) -> Tensor:
    """T * KL(softmax(target / T) || softmax(embedding / T)), mean of the rows: (N, ..., D), (N, ..., D) -> ()."""
    log_found = (embeddings / temperature).log_softmax(dim=-1)
    return F.kl_div(log_found, (target / temperature).softmax(dim=-1), reduction="batchmean") * temperature


def _check_widths(model: nn.Module, widths: Sequence[int], weights: Sequence[float]) -> None:
    if not widths:
        raise ValueError("You must provide at least one dimension in matryoshka_dims.")
    if len(weights) != len(widths):
        raise ValueError("matryoshka_weights must be the same length as matryoshka_dims.")
    if min(widths) <= 0:
        raise ValueError("All dimensions passed to a matryoshka loss must be > 0.")
    ask = getattr(model, "get_embedding_dimension", None)  # any module may be trained, not only our encoders
    full = ask() if callable(ask) else None
    if full is None:
        return
    if max(widths) > full:
        raise ValueError(f"Dimensions in matryoshka_dims cannot exceed the model's embedding dimension of {full}.")
    if full not in widths:
        logger.warning(
            "The model's embedding dimension %d is not in matryoshka_dims %s: nothing trains the full embeddings. "
            "Include %d, unless they will always be truncated.", full, list(widths), full)  # fmt: skip


def _narrowed(embeddings: list[Tensor], labels: Tensor | None, width: int) -> tuple[list[Tensor], Tensor | None]:
    """The first numbers of embeddings, at unit length, and of labels that are embeddings."""
    if labels is not None and labels.dim() > 1 and labels.shape[-1] == embeddings[0].shape[-1]:
        labels = labels[..., :width]
    return [normalize_embeddings(column[..., :width]) for column in embeddings], labels


def _modules(model: nn.Module) -> list[Any]:
    """The modules of an encoder, also of one wrapped for several processes or compiled.

    Raises: ValueError unless the first is a Transformer that embeds tokens: behind a head there are no layers.
    """
    encoder = encoder_of(model)
    parts = list(encoder) if isinstance(encoder, Encoder) else [encoder]
    if not isinstance(parts[0], Transformer):
        raise ValueError(
            "A loss behind several layers needs an encoder whose first module is a Transformer; got "
            f"{type(parts[0]).__name__}."
        )
    task = parts[0].transformer_task
    if task != FEATURES:
        raise ValueError(
            f"A loss behind several layers needs a Transformer of the task {FEATURES!r}, which embeds tokens behind "
            f"each layer; got one with a head, of the task {task!r}, as models of SPLADE and rerankers have. Leave "
            "this loss out: train with the loss inside alone, or, for narrower embeddings, with MatryoshkaLoss around "
            "it."
        )
    return parts


@contextmanager
def _all_layers(transformer: Transformer) -> Iterator[None]:
    """Inside, the transformer gives ``all_layer_embeddings``."""
    config = transformer.config
    before = config.output_hidden_states
    config.output_hidden_states = True
    try:
        yield
    finally:
        config.output_hidden_states = before
