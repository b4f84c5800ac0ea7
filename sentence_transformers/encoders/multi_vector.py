"""MultiVectorEncoder: one vector for every token of an input, compared by late interaction (ColBERT)."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sentence_transformers._types import Features, OnTruncate
from sentence_transformers.cards.data import MultiVectorEncoderModelCardData
from sentence_transformers.encoders import colbert
from sentence_transformers.encoders.embedding import EmbeddingEncoder
from sentence_transformers.encoders.loading import bare_transformer, network_folder
from sentence_transformers.encoders.padded import PaddedInputs, feature_rows
from sentence_transformers.encoders.roles import encode_document, encode_query
from sentence_transformers.inference.collect import Rows
from sentence_transformers.inference.run import run
from sentence_transformers.modules.late import MultiVectorMask
from sentence_transformers.modules.token_pooling import BaseTokenPooling
from sentence_transformers.modules.transformer import Transformer
from sentence_transformers.ops.ragged import Ragged
from sentence_transformers.ops.tokens import Packed, Padded

logger = logging.getLogger(__name__)


class MultiVectorEncoder(EmbeddingEncoder):
    """Maps texts to one vector for every token, and compares them token by token.

    Reads models saved by this library, by PyLate and by Stanford ColBERT; any other model gets a projection to 128
    dimensions, which is untrained unless the model has one.

    Args: those of ``Encoder``, and
        similarity_fn_name: "maxsim" (default) or "meanmaxsim".

    Example:
        >>> model = MultiVectorEncoder("lightonai/GTE-ModernColBERT-v1")
        >>> queries = model.encode_query(["What is the capital of France?"])
        >>> documents = model.encode_document(["Paris is the capital of France.", "Berlin is in Germany."])
        >>> model.similarity(queries, documents)
    """

    model_type: ClassVar[str] = "MultiVectorEncoder"
    similarities: ClassVar[tuple[str, ...]] = ("maxsim", "meanmaxsim")
    default_similarity: ClassVar[str] = "maxsim"
    model_card_data_class: ClassVar[Any] = MultiVectorEncoderModelCardData
    _model_card_model_id_placeholder: ClassVar[str] = "multi_vector_encoder_model_id"

    def _settle(self, device: str | torch.device | None, explicit_dtype: bool) -> None:
        super()._settle(device, explicit_dtype)
        expands = any(isinstance(part, Transformer) and part.query_expansion for part in self.parts())
        if expands and not any(isinstance(part, MultiVectorMask) for part in self.parts()):
            logger.warning("Queries are expanded, but without a MultiVectorMask the new tokens may not count.")

    def default_modules(self, folder: Path, settings: dict[str, Any]) -> list[nn.Module]:
        """Those of a Stanford ColBERT folder; for any other transformer an untrained projection to 128 dimensions."""
        stanford = colbert.read_stanford(network_folder(folder, settings))
        if stanford is not None:
            for role, text in stanford.prompts.items():
                if self.prompts.get(role) is None:
                    self.prompts[role] = text
            return stanford.modules(folder, settings)
        transformer = bare_transformer(folder, settings)
        return [transformer, colbert.projection(transformer.get_embedding_dimension()), *colbert.ending(None)]

    def understands(self, saved_type: str) -> bool:
        """PyLate's models, and dense ones, whose modules are made to work on tokens."""
        return saved_type in (colbert.PYLATE, "SentenceTransformer")

    def module_defaults(self, config: dict[str, Any]) -> dict[str, Any]:
        """Lengths and query expansion, where PyLate saved them."""
        return colbert.transformer_settings(config)

    def convert(
        self, saved_type: str, modules: OrderedDict[str, nn.Module], config: dict[str, Any]
    ) -> OrderedDict[str, nn.Module]:
        """The modules of a PyLate or a dense model, on tokens."""
        if saved_type == colbert.PYLATE:
            return colbert.from_pylate(modules, config)
        return colbert.from_dense(modules)

    def _take_config(self, config: dict[str, Any]) -> None:
        super()._take_config(colbert.with_prefixes(config))

    # --- encoding ----------------------------------------------------------------------------------------------------

    def encode(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "token_embeddings",
        convert_to_numpy: bool = False,
        device: str | torch.device | Sequence[str] | None = None,
        normalize_embeddings: bool = False,
        pool: Any = None,
        chunk_size: int | None = None,
        token_pooling: BaseTokenPooling | None = None,
        task: str | None = None,
        *,
        ragged: bool = False,
        on_truncate: OnTruncate = "warn",
        **kwargs: Any,
    ) -> Any:
        """Encode inputs to vectors of width D, one for every token that counts.

        Safe to call from many threads at once. The result does not depend on batch size, order or the other inputs.

        Args:
            inputs: a text, or a list of n texts.
            prompt_name: name of a prompt in ``prompts`` to put before every input. prompt: the prompt itself; wins.
            batch_size: the most inputs that are computed together.
            show_progress_bar: None shows it where this package logs at INFO.
            output_value: "token_embeddings"; None, all features, as they are: what follows is for vectors.
            convert_to_numpy: arrays rather than tensors.
            device: move the model there first, for good.
            normalize_embeddings: scale every vector to length 1.
            pool, chunk_size: for several processes; not part of this version yet.
            token_pooling: fewer vectors an input, on top of what the model itself does.
            task: "query", or "document", which is also what None means.
            ragged: one flat array with offsets (``Ragged``) rather than a list, for a list of inputs.
            on_truncate: "warn" once per call if inputs are longer than the model reads, "error", or "ignore".
            **kwargs: extra arguments that modules of this model take.

        Returns: a list of n (t_i, D) tensors or arrays, or ``Ragged``; for a single input one (t, D) tensor or array.
        Raises:
            ValueError: an unknown prompt, output or argument; an input of a kind that the model does not take.
        """
        if "convert_to_tensor" in kwargs:
            raise ValueError(
                "MultiVectorEncoder.encode() has no 'convert_to_tensor': inputs have different numbers of tokens, so "
                "the result is a list of tensors. Pass ragged=True for one tensor with offsets."
            )
        if output_value not in ("token_embeddings", None):
            raise ValueError(f'output_value must be "token_embeddings" or None (all features), got {output_value!r}.')
        request, single = self._request(
            inputs,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            device=device,
            pool=pool,
            on_truncate=on_truncate,
            kwargs={**kwargs, "task": task or "document"},
            caller="encode",
        )
        rows = Rows(len(request.inputs))
        if output_value is None:
            run(PaddedInputs(self), request, feature_rows, rows)
            return rows.values[0] if single else rows.values
        self._warn_if_pooled_twice(token_pooling)
        # a rule that may not run in several threads at once waits for the end
        early = token_pooling if token_pooling is not None and token_pooling.threads_safe else None
        task = request.forward_kwargs["task"]
        run(self, request, partial(_vectors, normalise=normalize_embeddings, pooling=early, task=task), rows)
        found = rows.values
        if token_pooling is not early and token_pooling is not None:
            found = list(token_pooling.pool(found, task=task))
        found = [_array(row) for row in found] if convert_to_numpy else found
        if single:
            return found[0]
        return self._ragged(found, convert_to_numpy) if ragged else found

    encode_query = encode_query(encode)
    encode_document = encode_document(encode)

    def _ragged(self, found: list[Any], as_array: bool) -> Ragged[Any]:
        if not found:
            nothing = torch.empty(0, self.get_embedding_dimension() or 0, device=self.device)
            found = [nothing.cpu().numpy() if as_array else nothing]
            return Ragged.of(found)[:0]
        return Ragged.of(found)

    def _warn_if_pooled_twice(self, token_pooling: BaseTokenPooling | None) -> None:
        if token_pooling is not None and any(isinstance(part, BaseTokenPooling) for part in self.parts()):
            logger.warning("This model pools tokens already: token_pooling comes on top of that.")

    # --- similarity --------------------------------------------------------------------------------------------------

    def _similarity_hint(self, name: Any) -> str:
        if name == "xtr":
            return " XTR compares with a whole pool of documents: see multi_vector_encoder.scoring.xtr_scores."
        return " Vectors that stand for whole inputs belong to SentenceTransformer."

    def similarity(self, embeddings1: Any, embeddings2: Any, **kwargs: Any) -> Tensor:
        """Compare every query with every document: n, m inputs -> (n, m); higher is closer.

        Args:
            embeddings1, embeddings2: as ``encode_query`` and ``encode_document`` give them, or padded (n, T, D).
            **kwargs: ``a_mask``, ``b_mask``, ``chunk_elements``, ``device`` of ``maxsim``.
        """
        return self._similarity()(embeddings1, embeddings2, **kwargs)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any, **kwargs: Any) -> Tensor:
        """Compare queries and documents one to one: n, n -> (n,). Arguments: as of ``similarity``."""
        return self._similarity_pairwise()(embeddings1, embeddings2, **kwargs)


def _vectors(features: Features, normalise: bool, pooling: BaseTokenPooling | None, task: str) -> Sequence[Tensor]:
    """One (t_i, D) tensor for every input of a batch."""
    values = features["token_embeddings"]
    rows = values.rows() if isinstance(values, Packed) else Padded(values, features["attention_mask"]).rows()
    if normalise:
        rows = [F.normalize(row, dim=-1) for row in rows]
    pooled: Sequence[Tensor] = rows
    if pooling is not None:
        pooled = list(pooling.pool(rows, task=task))
    with torch.inference_mode(False):  # ordinary tensors: the caller may use them with gradients
        return [row.clone() for row in pooled]


def _array(row: Tensor) -> Any:
    """numpy has no bfloat16: that becomes float32."""
    return (row.float() if row.dtype is torch.bfloat16 else row).cpu().numpy()
