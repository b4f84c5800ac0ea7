"""Losses that learn from plain sentences: two models that pull apart, or a decoder that repairs damaged text."""

from __future__ import annotations

import copy
import inspect
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..modules.module import module_device
from ..modules.transformer import Transformer
from ..ops.similarity import cos_sim
from .base import Components, Embed, Features, Loss, Objective, one_label_each
from .checks import at_least, exactly, positive_finite
from .unsupervised_objectives import contrastive_tension, matched_both_ways, next_tokens

logger = logging.getLogger(__name__)


class _WithCopy(Loss):
    """A loss of two models that are the same at the start: a copy embeds the first column, the model the second."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.model1 = copy.deepcopy(model)

    @property
    def model2(self) -> nn.Module:
        """The model that is kept in the end."""
        return self.model

    def run_both(
        self, first: Features, second: Features, labels: Tensor | None, objective: Objective, embed: Embed | None
    ) -> Tensor | Components:
        """The objective on what the copy makes of ``first``, and the model of ``second``."""
        of_copy: Tensor = self.model1(dict(first))[self.output_name]
        return objective([of_copy, (embed or self.embed)(second)], labels)


class ContrastiveTensionLoss(_WithCopy):
    """Two models agree on the same sentence, and disagree on different ones, by dot product.

    Args:
        model: the encoder to train; the loss holds a copy of it, which is trained too (``model1``).

    Columns: two. Labels: (B,) 1 for twice the same text, else 0, as ``ContrastiveTensionDataLoader`` makes them;
        without labels, texts with the same token ids are the same.
    Source: Carlsson et al. 2021, https://openreview.net/forum?id=Ov_sMNau-PF
    """

    citations = ("carlsson2021contrastive",)

    def run(
        self, features: list[Features], labels: Tensor | None, objective: Objective, embed: Embed | None = None
    ) -> Tensor | Components:
        if len(features) != 2:
            raise ValueError(f"ContrastiveTensionLoss expects 2 columns (two texts), but got {len(features)}.")
        first, second = features
        if labels is None:
            labels = same_tokens(first, second)
        return self.run_both(first, second, labels, objective, embed)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        first, second = exactly("ContrastiveTensionLoss", embeddings, 2, "two texts")
        flat = one_label_each("ContrastiveTensionLoss", labels, len(first))
        return contrastive_tension((first * second).sum(-1), flat)


class ContrastiveTensionLossInBatchNegatives(_WithCopy):
    """Each sentence finds itself among all sentences of the batch, from one model to its copy and back.

    Args:
        model: the encoder to train; the loss holds a copy of it, which is trained too (``model1``).
        scale: inverse temperature at the start, above 0; its logarithm is trained (``logit_scale``).
        similarity_fct: (B, D), (B, D) -> (B, B); higher is closer.

    Columns: one; others are not used. Labels: none.
    Source: Carlsson et al. 2021, https://openreview.net/forum?id=Ov_sMNau-PF
    """

    citations = ("carlsson2021contrastive",)

    def __init__(self, model: nn.Module, scale: float = 20.0, similarity_fct: Any = cos_sim) -> None:
        super().__init__(model)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(positive_finite("scale", scale))))
        self.similarity_fct = similarity_fct

    @property
    def scale(self) -> float:
        """The inverse temperature as it is now."""
        return self.logit_scale.detach().exp().item()

    def run(
        self, features: list[Features], labels: Tensor | None, objective: Objective, embed: Embed | None = None
    ) -> Tensor | Components:
        only = at_least_one(features)
        return self.run_both(only, only, labels, objective, embed)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        name = "ContrastiveTensionLossInBatchNegatives"
        first, second = at_least(name, embeddings, 2, "a text embedded by both models")[:2]
        return matched_both_ways(self.similarity_fct(first, second) * self.logit_scale.exp())


class DenoisingAutoEncoderLoss(Loss):
    """TSDAE: a decoder writes the sentence from the embedding of its damaged form, which is all that it sees of it.

    Args:
        model: the encoder to train; its first module is a ``Transformer``.
        decoder_name_or_path: the checkpoint of the decoder; None for that of the encoder.
        tie_encoder_decoder: the decoder is made of the encoder's checkpoint and shares its weights, so only
            cross-attention and head are its own.

    Attributes:
        encoder: the model.
        decoder: a causal language model of transformers with cross-attention.
        need_retokenization: the decoder has another vocabulary than the encoder.

    Columns: two, the damaged text and the text, as ``DenoisingAutoEncoderDataset`` makes them. Labels: none.

    Raises: ValueError if there can be no such decoder.
    Source: Wang, Reimers and Gurevych 2021, https://arxiv.org/abs/2104.06979
    """

    citations = ("wang2021tsdae",)

    def __init__(
        self, model: nn.Module, decoder_name_or_path: str | None = None, tie_encoder_decoder: bool = True
    ) -> None:
        super().__init__(model)
        inner = _transformer_of(model)
        of_encoder = inner.auto_model.config.name_or_path
        if tie_encoder_decoder:
            if decoder_name_or_path:
                logger.warning("When tie_encoder_decoder=True, the decoder_name_or_path will be invalid.")
            decoder_name_or_path = of_encoder
        if not decoder_name_or_path:
            raise ValueError("Must indicate the decoder_name_or_path argument when tie_encoder_decoder=False!")
        self.decoder_name_or_path = decoder_name_or_path
        self.tie_encoder_decoder = tie_encoder_decoder
        self.decoder = _decoder(decoder_name_or_path)
        _same_width(model, self.decoder)
        self.tokenizer_encoder = inner.tokenizer
        self.tokenizer_decoder = inner.tokenizer
        if decoder_name_or_path != of_encoder:
            self.tokenizer_decoder = _tokenizer(decoder_name_or_path)
        self.need_retokenization = self.tokenizer_encoder.get_vocab() != self.tokenizer_decoder.get_vocab()
        self.decoder.to(device=module_device(model), dtype=inner.dtype)
        if tie_encoder_decoder:
            tie(inner.auto_model, self.decoder)

    @property
    def encoder(self) -> nn.Module:
        """The model."""
        return self.model

    def run(
        self, features: list[Features], labels: Tensor | None, objective: Objective, embed: Embed | None = None
    ) -> Tensor | Components:
        if len(features) != 2:
            raise ValueError(
                f"DenoisingAutoEncoderLoss expects 2 columns (the damaged text and the text), but got {len(features)}."
            )
        damaged, target = features
        embeddings = (embed or self.embed)(damaged)
        return self.reconstruct(embeddings, self.retokenize(target) if self.need_retokenization else target)

    def reconstruct(self, embeddings: Tensor, target: Features) -> Tensor:
        """The mean of -log p(token) of the decoder over the tokens of the target behind the first.

        Args:
            embeddings: (B, D).
            target: ``input_ids`` and ``attention_mask``, each (B, T), in the vocabulary of the decoder.
        """
        ids = target["input_ids"].to(embeddings.device)
        seen = target["attention_mask"].to(embeddings.device)
        # one place to look at, in each layer: the embedding
        output = self.decoder(
            input_ids=ids[:, :-1],
            attention_mask=seen[:, :-1],
            encoder_hidden_states=embeddings[:, None],
            use_cache=False,
        )
        return next_tokens(output.logits, ids, self.tokenizer_decoder.pad_token_id)

    def retokenize(self, sentence_features: Features) -> Features:
        """The same texts in the vocabulary of the decoder: ``input_ids`` and ``attention_mask``, each (B, T)."""
        ids = sentence_features["input_ids"]
        texts = self.tokenizer_encoder.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=True)
        tokens = self.tokenizer_decoder(texts, padding=True, truncation=True, return_tensors="pt")
        return {name: tokens[name].to(ids.device) for name in ("input_ids", "attention_mask")}

    def get_config_dict(self) -> dict[str, Any]:
        return super().get_config_dict() | {"need_retokenization": self.need_retokenization}


def same_tokens(first: Features, second: Features) -> Tensor:
    """(B,) 1 where both columns have the same token ids, whatever their padding, else 0."""
    if "input_ids" not in first or "input_ids" not in second:
        raise ValueError("ContrastiveTensionLoss needs labels for inputs without token ids.")
    pairs = zip(_unpadded(first), _unpadded(second), strict=True)
    return torch.tensor([int(one == two) for one, two in pairs], device=first["input_ids"].device)


def at_least_one(features: list[Features]) -> Features:
    """The first column. Raises: ValueError if there is none."""
    if not features:
        raise ValueError("ContrastiveTensionLossInBatchNegatives expects at least 1 column (a text), but got 0.")
    return features[0]


def tie(encoder: nn.Module, decoder: nn.Module) -> None:
    """Put the parameters of the encoder into the decoder, wherever they have the same name there.

    Args:
        encoder, decoder: transformers models of the same checkpoint.
    """
    inside: Any = decoder.base_model
    own = dict(inside.named_parameters(remove_duplicate=False))
    for name, parameter in encoder.named_parameters(remove_duplicate=False):
        if name in own and own[name].shape == parameter.shape:
            path, _, last = name.rpartition(".")
            setattr(inside.get_submodule(path), last, parameter)
    whole: Any = decoder
    whole.tie_weights()  # the head may be the word embeddings


def _unpadded(features: Features) -> list[list[int]]:
    ids = features["input_ids"]
    mask = features.get("attention_mask", torch.ones_like(ids)).bool()
    return [row[real].tolist() for row, real in zip(ids, mask, strict=True)]


def _transformer_of(model: Any) -> Transformer:
    inner = model[0] if isinstance(model, nn.Sequential) else None
    if not isinstance(inner, Transformer):
        raise ValueError(
            "DenoisingAutoEncoderLoss needs a model whose first module is a Transformer, not "
            f"{type(model if inner is None else inner).__name__}."
        )
    return inner


def _decoder(checkpoint: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = AutoConfig.from_pretrained(checkpoint)
    config.is_decoder, config.add_cross_attention = True, True
    if config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not config.is_encoder_decoder:
        with _without_warnings():  # that what a decoder has besides the encoder is not in the checkpoint
            decoder = AutoModelForCausalLM.from_pretrained(checkpoint, config=config)
        if "encoder_hidden_states" in inspect.signature(decoder.forward).parameters:
            return decoder
    raise ValueError(
        f'Model name or path "{checkpoint}" does not support being as a decoder. Please make sure the decoder model '
        f'has an "XXXLMHead" class, with cross-attention; models of type {config.model_type} have none.'
    )


@contextmanager
def _without_warnings() -> Iterator[None]:
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def _same_width(model: Any, decoder: Any) -> None:
    width, wanted = model.get_embedding_dimension(), decoder.config.hidden_size
    if width != wanted:
        raise ValueError(
            f"The decoder looks at embeddings of {wanted} dimensions, but the model makes {width}. Choose a decoder of "
            "the same width, or leave out modules that change it."
        )


def _tokenizer(checkpoint: str) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
