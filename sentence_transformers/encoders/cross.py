"""CrossEncoder: one score, or a few, for a pair of texts that are read together."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from sentence_transformers._lazy import Late
from sentence_transformers._types import Features, OnTruncate
from sentence_transformers.backend.native.heads import CLASSIFY, GENERATE
from sentence_transformers.cards.data import CrossEncoderModelCardData
from sentence_transformers.encoders import activations, legacy
from sentence_transformers.encoders.activations import Activation
from sentence_transformers.encoders.encoder import Encoder
from sentence_transformers.encoders.loading import architectures, bare_transformer, network_folder
from sentence_transformers.encoders.pairs import is_one_pair, is_one_query, pairs_of, queries_and_documents
from sentence_transformers.encoders.signatures import arguments_and_those_of
from sentence_transformers.errors import one_of, positive
from sentence_transformers.inference.collect import Matrix
from sentence_transformers.inference.run import run
from sentence_transformers.modules.heads import LogitScore, keep_in_float32
from sentence_transformers.modules.linear import Dense
from sentence_transformers.modules.processing import PAIR_TRUNCATIONS, PairTruncation
from sentence_transformers.modules.transformer import Transformer

NARROW = (torch.float16, torch.bfloat16)


class CrossEncoder(Encoder):
    """Reads two texts together and scores the pair: slower and better than comparing embeddings.

    Args: those of ``Encoder``, and
        num_labels: how many numbers a pair gets; None takes what the model has, one for a model without a head.
        max_length: the most tokens of a pair.
        activation_fn: applied to the scores; None takes what the model was saved with, else a sigmoid for one label.
        keep_in_fp32_modules: paths of linear layers that compute in float32 whatever the type of the model.

    Example:
        >>> model = CrossEncoder("cross-encoder/ms-marco-MiniLM-L6-v2")
        >>> model.rank("How many people live in Berlin?", ["Berlin had 3,520,031 inhabitants.", "I like Berlin."])
    """

    model_type: ClassVar[str] = "CrossEncoder"
    default_huggingface_organization: ClassVar[str | None] = "cross-encoder"
    model_card_data_class: ClassVar[Any] = CrossEncoderModelCardData
    _model_card_model_id_placeholder: ClassVar[str] = "cross_encoder_model_id"
    activation_fn: Activation
    fit: Any = Late("training.legacy.fit_pairs:fit")
    old_fit: Any = Late("training.legacy.fit_pairs:old_fit")
    smart_batching_collate: Any = Late("training.legacy.fit_pairs:smart_batching_collate")
    smart_batching_collate_text_only: Any = Late("training.legacy.fit_pairs:smart_batching_collate_text_only")

    @arguments_and_those_of(Encoder.__init__)
    @legacy.cross_encoder_arguments
    def __init__(
        self,
        model_name_or_path: str | None = None,
        *,
        num_labels: int | None = None,
        max_length: int | None = None,
        activation_fn: Activation | None = None,
        keep_in_fp32_modules: Sequence[str] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if num_labels is not None:
            config_kwargs = {**(config_kwargs or {}), "num_labels": num_labels}
        if max_length is not None:
            processor_kwargs = {**(processor_kwargs or {}), "model_max_length": max_length}
        self._activation_name: str | None = None
        self._float32_modules: Sequence[str] = []
        super().__init__(model_name_or_path, config_kwargs=config_kwargs, processor_kwargs=processor_kwargs, **kwargs)
        self.activation_fn = self.get_default_activation_fn() if activation_fn is None else activation_fn
        names = self._float32_modules if keep_in_fp32_modules is None else keep_in_fp32_modules
        self._float32_modules = []
        if names:
            self.set_keep_in_fp32_modules(names)

    def default_modules(self, folder: Path, settings: dict[str, Any]) -> list[nn.Module]:
        """A classification head; or for a causal language model the difference of its logits of "yes" and "no"."""
        names = architectures(network_folder(folder, settings))
        if names and names[0].endswith("ForCausalLM"):
            transformer = bare_transformer(folder, settings, GENERATE)
            return [transformer, LogitScore.of_words(transformer, "yes", "no")]
        overrides = settings["config_kwargs"] or {}
        if "num_labels" not in overrides and not any(name.endswith("ForSequenceClassification") for name in names):
            settings = {**settings, "config_kwargs": {**overrides, "num_labels": 1}}
        return [bare_transformer(folder, settings, CLASSIFY)]

    def _take_config(self, config: dict[str, Any]) -> None:
        super()._take_config(config)
        name = config.get("activation_fn")
        self._activation_name = name if isinstance(name, str) else None
        self._float32_modules = config.get("keep_in_fp32_modules") or []

    def _config_to_save(self) -> dict[str, Any]:
        name = activations.name_of(self.activation_fn)
        first = self[0]
        if isinstance(first, Transformer) and first.transformer_task == CLASSIFY:
            activations.note_in(first.pretrained, name)  # is saved after this
        config = {**super()._config_to_save(), "activation_fn": name}
        return {**config, "keep_in_fp32_modules": self._float32_modules} if self._float32_modules else config

    # --- scoring -----------------------------------------------------------------------------------------------------

    @legacy.predict_arguments
    def predict(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Activation | None = None,
        apply_softmax: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | torch.device | Sequence[str] | None = None,
        pool: Any = None,
        chunk_size: int | None = None,
        *,
        truncation: PairTruncation = "longest_first",
        on_truncate: OnTruncate = "warn",
        **kwargs: Any,
    ) -> Any:
        """Score pairs of texts. Every different text is tokenised once, every different pair computed once.

        Safe to call from many threads at once. The result does not depend on batch size, order or the other pairs.

        Args:
            inputs: a pair of texts, or a list of n pairs (also an (n, 2) array); a text alone is scored alone.
            prompt_name: name of a prompt in ``prompts`` to put before the first text. prompt: the prompt itself; wins.
            batch_size: the most pairs that are computed together.
            show_progress_bar: None shows it where this package logs at INFO.
            activation_fn: applied to the scores, instead of ``self.activation_fn``.
            apply_softmax: make the scores of the labels of a pair sum to 1.
            convert_to_numpy: an array rather than a list of tensors. convert_to_tensor: one tensor; wins.
            device: move the model there first, for good.
            pool, chunk_size: for several processes; not part of this version yet.
            truncation: which text of a pair that is too long is cut: the longer one, or always the same; see ``rank``.
            on_truncate: "warn" once per call if pairs are longer than ``max_seq_length``, "error", or "ignore".
            **kwargs: handed to the first module's ``preprocess`` and to ``forward``.

        Returns: (n,) float32 for one label, else (n, labels): array, tensor, or list of n tensors; for a single pair a
            number or (labels,).
        Raises: ValueError for an unknown prompt, or an input that is no pair of texts.
        """
        request, single = self._request(
            pairs_of(inputs),
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            device=device,
            pool=pool,
            on_truncate=on_truncate,
            kwargs=self._with_truncation(kwargs, truncation),
            caller="predict",
            any_argument=True,
        )
        activation = self.activation_fn if activation_fn is None else activations.checked(activation_fn)
        one_label = self.num_labels == 1
        finish = partial(_scores, activation=activation, one_label=one_label, apply_softmax=apply_softmax)
        as_array = convert_to_numpy and not convert_to_tensor
        matrix = Matrix(len(request.inputs), torch.device("cpu") if as_array else None, widen=as_array)
        run(self, request, finish, matrix)
        scores = matrix.values
        if scores is None:  # no inputs
            shape = (0,) if one_label else (0, self.num_labels)
            scores = torch.empty(shape, device=None if as_array else self.device)
        result: Any = scores.float().numpy() if as_array else scores
        if single:
            return result[0]
        return result if convert_to_tensor or convert_to_numpy else list(result)

    @legacy.rank_arguments
    def rank(
        self,
        query: Any,
        documents: Any,
        top_k: int | None = None,
        return_documents: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Activation | None = None,
        device: str | torch.device | Sequence[str] | None = None,
        pool: Any = None,
        chunk_size: int | None = None,
        *,
        truncation: PairTruncation = "only_second",
        on_truncate: OnTruncate = "warn",
        **kwargs: Any,
    ) -> Any:
        """Put documents in the order of their scores for a query.

        Args:
            query: a query; or a list of n queries.
            documents: a list of documents; for n queries a list of n such lists. All pairs are batched together.
            top_k: how many documents to return; None: all.
            return_documents: put each document into its result under "text".
            truncation: which text is cut where a pair is too long; "only_second": the document, never the query,
                unless the query alone leaves no room for a token of the document.
            Others: as of ``predict``.

        Returns: a list of ``{"corpus_id": place in documents, "score": float}``, highest score first, equal scores in
            the order of ``documents``; for n queries a list of n such lists.
        Raises: ValueError for a model with several labels, a ``top_k`` below 1, or lists that do not belong together.
        """
        if self.num_labels != 1:
            raise ValueError(
                f"CrossEncoder.rank() only works for models with num_labels=1; this one has {self.num_labels}. Use "
                "predict(), and sort by the label that matters."
            )
        count = None if top_k is None else positive("top_k", top_k)
        queries, lists = queries_and_documents(query, documents)
        scores = self.predict(
            [(text, document) for text, found in zip(queries, lists, strict=True) for document in found],
            prompt_name,
            prompt,
            batch_size,
            show_progress_bar,
            activation_fn,
            convert_to_numpy=True,
            device=device,
            pool=pool,
            chunk_size=chunk_size,
            truncation=truncation,
            on_truncate=on_truncate,
            **kwargs,
        )
        ranked, start = [], 0
        for found in lists:
            ranked.append(_ranked(scores[start : start + len(found)], found, count, return_documents))
            start += len(found)
        return ranked[0] if is_one_query(query) else ranked

    def _with_truncation(self, kwargs: dict[str, Any], truncation: PairTruncation) -> dict[str, Any]:
        """The policy as the first module takes it; the usual one needs no word, and what the caller wrote wins."""
        one_of("truncation", truncation, PAIR_TRUNCATIONS)
        if truncation == "longest_first" or not isinstance(self[0], Transformer):
            return kwargs
        given = dict(kwargs.get("processing_kwargs") or {})
        given["text"] = {"truncation": truncation, **(given.get("text") or {})}
        return {**kwargs, "processing_kwargs": given}

    @staticmethod
    def is_singular_input(inputs: Any) -> bool:
        """Whether this is one pair rather than a batch (see ``pairs.is_one_pair``)."""
        return is_one_pair(inputs)

    # --- properties --------------------------------------------------------------------------------------------------

    @property
    def num_labels(self) -> int:
        """How many numbers a pair gets."""
        for part in reversed(list(self)):
            if isinstance(part, Dense) and part.module_output_name == "scores":
                return part.out_features
            if isinstance(part, LogitScore):
                return 1
            if isinstance(part, Transformer):
                return part.num_labels
        return 1

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "activation_fn":  # torch would make a child of it, which shifts model[-1] and state_dict()
            self.__dict__[name] = activations.checked(value)
        elif name == "model":  # torch would make a child of this, too
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def get_default_activation_fn(self) -> Activation:
        """The activation that the model was saved with; else a sigmoid for one label, nothing for several.

        Only classes of torch are made from a saved name, unless ``trust_remote_code``.
        """
        name = self._activation_name
        first = self[0]
        if name is None and isinstance(first, Transformer):
            name = activations.saved_in(first.pretrained.config)
        found = None if name is None else activations.of_name(name, self.trust_remote_code)
        if found is not None:
            return found
        return nn.Sigmoid() if self.num_labels == 1 else nn.Identity()

    def set_keep_in_fp32_modules(self, names: Sequence[str]) -> None:
        """Let linear layers compute in float32 in a model of a narrower type.

        Args:
            names: their paths in the model, such as ``"0.model.classifier"``.

        Raises: ValueError for a path that leads to something else than a plain ``nn.Linear``.
        """
        keep_in_float32(self, names)
        self._float32_modules = list(names)

    @property
    def model(self) -> Any:
        """The transformers model; may be replaced."""
        return self.transformers_model

    @model.setter
    def model(self, model: Any) -> None:
        self[0].model = model

    @property
    def max_length(self) -> int | None:
        """The old name of ``max_seq_length``."""
        warnings.warn("max_length is now max_seq_length.", FutureWarning, stacklevel=2)
        return self.max_seq_length

    @max_length.setter
    def max_length(self, value: int | None) -> None:
        warnings.warn("max_length is now max_seq_length.", FutureWarning, stacklevel=4)  # through two __setattr__
        self.max_seq_length = value

    @property
    def default_activation_function(self) -> Activation:
        """The old name of ``activation_fn``."""
        warnings.warn("default_activation_function is now activation_fn.", FutureWarning, stacklevel=2)
        return self.activation_fn


def _ranked(
    scores: np.ndarray[Any, Any], documents: Sequence[Any], top_k: int | None, return_documents: bool
) -> list[dict[str, Any]]:
    order = np.argsort(-scores, kind="stable")[:top_k]
    found: list[dict[str, Any]] = [{"corpus_id": int(i), "score": float(scores[i])} for i in order]
    if return_documents:
        for item in found:
            item["text"] = documents[item["corpus_id"]]
    return found


def _scores(features: Features, activation: Activation, one_label: bool, apply_softmax: bool | None) -> Tensor:
    """(B,) or (B, labels) of a batch."""
    scores: Tensor = features["scores"]
    scores = activation(scores.float() if scores.dtype in NARROW else scores)
    scores = scores.squeeze(-1) if one_label and scores.dim() > 1 else scores
    return torch.softmax(scores, dim=1) if apply_softmax and scores.dim() > 1 else scores
