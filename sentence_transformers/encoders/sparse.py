"""SparseEncoder: one sparse vector for every input, mostly over the words of a vocabulary."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sentence_transformers._types import Features, OnTruncate
from sentence_transformers.backend.native.heads import FILL
from sentence_transformers.cards.data import SparseEncoderModelCardData
from sentence_transformers.encoders.embedding import EmbeddingEncoder, width_of
from sentence_transformers.encoders.graphs import with_held
from sentence_transformers.encoders.loading import architectures, bare_transformer, network_folder, numbered
from sentence_transformers.encoders.roles import encode_document, encode_query
from sentence_transformers.encoders.signatures import arguments_and_those_of
from sentence_transformers.errors import positive
from sentence_transformers.inference.collect import Matrix, SparseRows
from sentence_transformers.inference.run import Request, run
from sentence_transformers.modules.parts import renamed_arguments
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.sparse_autoencoder import SparseAutoEncoder
from sentence_transformers.modules.splade import SpladePooling
from sentence_transformers.modules.transformer import Transformer
from sentence_transformers.ops import sparse
from sentence_transformers.ops.tensors import select_max_active_dims

logger = logging.getLogger(__name__)


class SparseEncoder(EmbeddingEncoder):
    """Maps texts to sparse vectors, most of them with a weight for each word that matters, and compares them.

    Args: those of ``Encoder``, and
        similarity_fn_name: "dot" (default), "cosine", "euclidean" or "manhattan".
        max_active_dims: keep only so many values of every vector, those of largest magnitude; None keeps all.

    Example:
        >>> model = SparseEncoder("naver/splade-cocondenser-ensembledistil")
        >>> embeddings = model.encode(["The weather is lovely today.", "It's so sunny outside!"])
        >>> model.decode(embeddings[0], top_k=3)
    """

    model_type: ClassVar[str] = "SparseEncoder"
    default_huggingface_organization: ClassVar[str | None] = "sparse-encoder"
    similarities: ClassVar[tuple[str, ...]] = ("cosine", "dot", "euclidean", "manhattan")
    default_similarity: ClassVar[str] = "dot"
    model_card_data_class: ClassVar[Any] = SparseEncoderModelCardData
    _model_card_model_id_placeholder: ClassVar[str] = "sparse_encoder_model_id"

    @arguments_and_those_of(EmbeddingEncoder.__init__)
    @renamed_arguments(tokenizer_kwargs="processor_kwargs")
    def __init__(
        self, model_name_or_path: str | None = None, *, max_active_dims: int | None = None, **kwargs: Any
    ) -> None:
        self._max_active_dims = None if max_active_dims is None else positive("max_active_dims", max_active_dims)
        super().__init__(model_name_or_path, **kwargs)

    def default_modules(self, folder: Path, settings: dict[str, Any]) -> list[nn.Module]:
        """SPLADE for a masked language model, else an autoencoder (untrained) on the mean of the tokens."""
        if any(name.endswith("ForMaskedLM") for name in architectures(network_folder(folder, settings))):
            return [bare_transformer(folder, settings, FILL), SpladePooling("max")]
        transformer = bare_transformer(folder, settings)
        width = transformer.get_embedding_dimension()
        return [
            transformer,
            Pooling(width, "mean"),
            SparseAutoEncoder(width, 4 * width, k=min(256, 4 * width), k_aux=512),
        ]

    def understands(self, saved_type: str) -> bool:
        """A dense model gets an untrained autoencoder behind its modules."""
        return saved_type == "SentenceTransformer"

    def convert(
        self, saved_type: str, modules: OrderedDict[str, nn.Module], config: dict[str, Any]
    ) -> OrderedDict[str, nn.Module]:
        """The modules of a dense model with an untrained autoencoder behind them."""
        width = width_of(list(modules.values()))
        if width is None:
            raise ValueError("The dense model does not say how wide its embeddings are, so no autoencoder fits it.")
        last = SparseAutoEncoder(width, 4 * width, k=max(1, width // 4), k_aux=max(1, width // 2))
        return numbered([*modules.values(), last])

    def _take_config(self, config: dict[str, Any]) -> None:
        super()._take_config(config)
        if self._max_active_dims is None:
            self.max_active_dims = config.get("max_active_dims")

    def _config_to_save(self) -> dict[str, Any]:
        config = super()._config_to_save()
        return config if self.max_active_dims is None else {**config, "max_active_dims": self.max_active_dims}

    @property
    def max_active_dims(self) -> int | None:
        """The most values of a vector; unless set, what the autoencoder keeps, or None for all."""
        if self._max_active_dims is None:
            return next((module.k for module in self.parts() if isinstance(module, SparseAutoEncoder)), None)
        return self._max_active_dims

    @max_active_dims.setter
    def max_active_dims(self, value: int | None) -> None:
        self._max_active_dims = None if value is None else positive("max_active_dims", value)

    # --- encoding ----------------------------------------------------------------------------------------------------

    @renamed_arguments(sentences="inputs")
    def encode(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_tensor: bool = True,
        convert_to_sparse_tensor: bool = True,
        save_to_cpu: bool = False,
        device: str | torch.device | Sequence[str] | None = None,
        max_active_dims: int | None = None,
        pool: Any = None,
        chunk_size: int | None = None,
        *,
        on_truncate: OnTruncate = "warn",
        **kwargs: Any,
    ) -> Any:
        """Encode inputs to sparse vectors of V dimensions. Memory: the values that are not zero, and one batch.

        Safe to call from many threads at once. The result does not depend on batch size, order or the other inputs.

        Args:
            inputs: a text, or a list of n texts.
            prompt_name: name of a prompt in ``prompts`` to put before every input. prompt: the prompt itself; wins.
            batch_size: the most inputs that are computed together.
            show_progress_bar: None shows it where this package logs at INFO.
            convert_to_tensor: one tensor rather than a list of tensors.
            convert_to_sparse_tensor: sparse COO tensors rather than dense ones.
            save_to_cpu: bring every batch to the CPU as soon as it is computed.
            device: move the model there first, for good.
            max_active_dims: keep so many values of every vector; default ``self.max_active_dims``.
            pool, chunk_size: for several processes; not part of this version yet.
            on_truncate: "warn" once per call if inputs are longer than ``max_seq_length``, "error", or "ignore".
            **kwargs: extra arguments that modules of this model take, such as ``task``.

        Returns: (n, V) tensor or list of n (V,) tensors, float; for a single input one (V,) tensor. The sparse tensor
            is coalesced.
        Raises:
            ValueError: an unknown prompt or argument; an input of a kind that the model does not take.
        """
        active = self.max_active_dims if max_active_dims is None else positive("max_active_dims", max_active_dims)
        request, single = self._request(
            inputs,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            device=device,
            pool=pool,
            on_truncate=on_truncate,
            kwargs=kwargs,
            caller="encode",
        )
        request = replace(request, forward_kwargs={**request.forward_kwargs, "max_active_dims": active})
        request = with_held(self, request)
        place = torch.device("cpu") if save_to_cpu else None
        if not convert_to_sparse_tensor:
            matrix = self._dense(request, active, place)
            return matrix[0] if single else matrix if convert_to_tensor else list(matrix)
        rows = SparseRows(len(request.inputs), place)
        run(self, request, partial(_vectors, active=active), rows)
        if single or not convert_to_tensor:
            vectors = rows.rows()
            return vectors[0] if single else vectors
        return rows.tensor() if request.inputs else self._nothing(place).to_sparse()

    encode_query = encode_query(encode)
    encode_document = encode_document(encode)

    def _dense(self, request: Request, active: int | None, place: torch.device | None) -> Tensor:
        matrix = Matrix(len(request.inputs), place)
        run(self, request, partial(_vectors, active=active), matrix)
        return self._nothing(place) if matrix.values is None else matrix.values

    def _nothing(self, place: torch.device | None) -> Tensor:
        return torch.empty(0, self.get_embedding_dimension() or 0, device=place or self.device)

    # --- reading sparse vectors --------------------------------------------------------------------------------------

    def decode(self, embeddings: Tensor, top_k: int | None = None) -> Any:
        """The words of sparse vectors with their weights, the largest weight first.

        Args:
            embeddings: (V,) or (n, V) tensor, sparse or dense.
            top_k: only so many words of every vector.

        Returns: a list of (word, weight); for (n, V) a list of n such lists.
        Raises: TypeError unless it is a tensor; ValueError for another shape or a ``top_k`` below 1.
        """
        found = sparse.largest(embeddings, top_k)
        ids = sorted({int(i) for row, _ in found for i in row})
        words = dict(zip(ids, self.tokenizer.convert_ids_to_tokens(ids), strict=True))
        rows = [
            [(words[i], weight) for i, weight in zip(row.tolist(), weights.tolist(), strict=True)]
            for row, weights in found
        ]
        return rows if embeddings.dim() == 2 else rows[0]

    def token_weights(self, embeddings: Tensor, top_k: int | None = None) -> Any:
        """``decode`` as dictionaries word -> weight, as search engines take them."""
        found = self.decode(embeddings, top_k)
        return [dict(row) for row in found] if embeddings.dim() == 2 else dict(found)

    to_scipy_csr = staticmethod(sparse.to_scipy_csr)
    to_indices_values = staticmethod(sparse.to_indices_values)
    sparsity = staticmethod(sparse.sparsity)
    intersection = staticmethod(sparse.intersection)

    # --- properties --------------------------------------------------------------------------------------------------

    def get_embedding_dimension(self) -> int | None:
        """V; for SPLADE the size of the vocabulary."""
        width = super().get_embedding_dimension() if self._splade is None else self._splade.get_embedding_dimension()
        if width is not None:
            return width
        masked = (part for part in self.parts() if isinstance(part, Transformer) and part.transformer_task == FILL)
        return next((int(part.pretrained.config["vocab_size"]) for part in masked), None)

    @property
    def _splade(self) -> SpladePooling | None:
        return next((module for module in self.parts() if isinstance(module, SpladePooling)), None)

    @property
    def splade_pooling_chunk_size(self) -> int | None:
        """How many tokens ``SpladePooling`` reduces at a time in training; None for all at once."""
        if self._splade is None:
            logger.warning("This model has no SpladePooling, so there is no chunk size.")
            return None
        return self._splade.chunk_size

    @splade_pooling_chunk_size.setter
    def splade_pooling_chunk_size(self, value: int | None) -> None:
        if self._splade is None:
            logger.warning("This model has no SpladePooling: the chunk size is ignored.")
            return
        self._splade.chunk_size = None if value is None else positive("splade_pooling_chunk_size", value)


def _vectors(features: Features, active: int | None) -> Tensor:
    """(B, V) of a batch."""
    return select_max_active_dims(features["sentence_embedding"], active)
