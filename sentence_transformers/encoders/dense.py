"""SentenceTransformer: one dense vector for every input."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sentence_transformers._lazy import Late
from sentence_transformers._types import Features, OnTruncate, Precision
from sentence_transformers.cards.data import SentenceTransformerModelCardData
from sentence_transformers.encoders.embedding import EmbeddingEncoder
from sentence_transformers.encoders.graphs import with_held
from sentence_transformers.encoders.loading import bare_transformer
from sentence_transformers.encoders.padded import PaddedInputs, feature_rows
from sentence_transformers.encoders.roles import encode_document, encode_query
from sentence_transformers.encoders.signatures import arguments_and_those_of
from sentence_transformers.inference.collect import Matrix, Rows
from sentence_transformers.inference.run import Request, run
from sentence_transformers.modules.parts import renamed_arguments
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.ops.quantize import PRECISIONS, quantize_embeddings
from sentence_transformers.ops.tokens import Packed

logger = logging.getLogger(__name__)


class SentenceTransformer(EmbeddingEncoder):
    """Maps texts to dense vectors, and compares them.

    Args: those of ``Encoder``, and
        similarity_fn_name: "cosine" (default), "dot", "euclidean" or "manhattan".
        truncate_dim: keep only the first so many dimensions of every vector (Matryoshka models).

    Example:
        >>> model = SentenceTransformer("all-MiniLM-L6-v2")
        >>> embeddings = model.encode(["The weather is lovely today.", "It's so sunny outside!"])
        >>> model.similarity(embeddings, embeddings)
    """

    model_type: ClassVar[str] = "SentenceTransformer"
    default_huggingface_organization: ClassVar[str | None] = "sentence-transformers"
    similarities: ClassVar[tuple[str, ...]] = ("cosine", "dot", "euclidean", "manhattan")
    default_similarity: ClassVar[str] = "cosine"
    model_card_data_class: ClassVar[Any] = SentenceTransformerModelCardData
    _model_card_model_id_placeholder: ClassVar[str] = "sentence_transformers_model_id"

    @arguments_and_those_of(EmbeddingEncoder.__init__)
    @renamed_arguments(tokenizer_kwargs="processor_kwargs")
    def __init__(
        self,
        model_name_or_path: str | None = None,
        *,
        truncate_dim: int | None = None,
        use_auth_token: bool | str | None = None,
        **kwargs: Any,
    ) -> None:
        if use_auth_token is not None:
            warnings.warn("use_auth_token is now token.", FutureWarning, stacklevel=2)
            if kwargs.get("token") is not None:
                raise ValueError("token and use_auth_token are the same argument: pass only token.")
            kwargs["token"] = use_auth_token
        self.truncate_dim = truncate_dim
        super().__init__(model_name_or_path, **kwargs)

    def default_modules(self, folder: Path, settings: dict[str, Any]) -> list[nn.Module]:
        """A bare transformer gets a pooling: the last token for causal language models, else the mean."""
        transformer = bare_transformer(folder, settings)
        config = transformer.pretrained.config
        architecture = (config.get("architectures") or [""])[0]
        causal = architecture.endswith("ForCausalLM") and config.get("is_causal", True)
        return [transformer, Pooling(transformer.get_embedding_dimension(), "lasttoken" if causal else "mean")]

    def _take_config(self, config: dict[str, Any]) -> None:
        super()._take_config(config)
        if self.truncate_dim is None:
            self.truncate_dim = config.get("truncate_dim")

    def _config_to_save(self) -> dict[str, Any]:
        config = {**super()._config_to_save(), "similarity_fn_name": self.similarity_fn_name}
        return config if self.truncate_dim is None else {**config, "truncate_dim": self.truncate_dim}

    fit: Any = Late("training.legacy.fit:fit")
    old_fit: Any = Late("training.legacy.fit:old_fit")
    smart_batching_collate: Any = Late("training.legacy.fit:smart_batching_collate")

    # --- encoding ----------------------------------------------------------------------------------------------------

    @renamed_arguments(sentences="inputs")
    def encode(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: Literal["sentence_embedding", "token_embeddings"] | None = "sentence_embedding",
        precision: Precision | None = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | torch.device | Sequence[str] | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: Any = None,
        chunk_size: int | None = None,
        *,
        on_truncate: OnTruncate = "warn",
        **kwargs: Any,
    ) -> Any:
        """Encode inputs to vectors of width D.

        Safe to call from many threads at once. The result does not depend on batch size, order or the other inputs
        (beyond 2e-6 in float32).

        Args:
            inputs: a text, or a list of n texts; also pairs of texts, and what else the model takes.
            prompt_name: name of a prompt in ``prompts`` to put before every input. prompt: the prompt itself; wins.
            batch_size: the most inputs that are computed together.
            show_progress_bar: None shows it where this package logs at INFO.
            output_value: "sentence_embedding"; "token_embeddings", one (T, D) tensor per input; None, all features.
            precision: "float32", "int8", "uint8" (D columns), "binary" (D columns of -1 and 1), "ubinary" (D / 8).
            convert_to_numpy: an array rather than a list of tensors. convert_to_tensor: one tensor; wins.
            device: move the model there first, for good.
            normalize_embeddings: scale every vector to length 1.
            truncate_dim: keep the first so many dimensions; default ``self.truncate_dim``.
            pool, chunk_size: for several processes; not part of this version yet.
            on_truncate: "warn" once per call if inputs are longer than ``max_seq_length``, "error", or "ignore".
            **kwargs: extra arguments that modules of this model take, such as ``task``.

        Returns: (n, D) array, tensor or list of n (D,) tensors; for a single input one (D,) array or tensor.
        Raises:
            ValueError: an unknown prompt, precision or argument; an input of a kind that the model does not take.
        """
        if precision is not None and precision not in PRECISIONS:
            raise ValueError(f"Precision {precision!r} is not supported, must be one of {PRECISIONS}.")
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
        width = self.truncate_dim if truncate_dim is None else truncate_dim
        if output_value != "sentence_embedding":
            rows = self._encode_features(request, output_value)
            if rows and output_value is not None and precision not in (None, "float32"):
                rows = quantize_embeddings([row.float().cpu().numpy() for row in rows], precision=precision)
            return rows[0] if single else rows
        as_array = convert_to_numpy and not convert_to_tensor
        matrix = self._encode_matrix(request, width, normalize_embeddings, as_array)
        if precision not in (None, "float32") and len(matrix):
            matrix = torch.from_numpy(self._quantize(matrix, precision, single))
        result: Any = matrix.numpy() if as_array else matrix
        if single:
            return result[0]
        return result if convert_to_tensor or convert_to_numpy else list(result)

    encode_query = encode_query(encode)
    encode_document = encode_document(encode)

    def _encode_matrix(self, request: Request, width: int | None, normalise: bool, as_array: bool) -> Tensor:
        """(n, D) float tensor; on the CPU if it is to become an array."""
        matrix = Matrix(len(request.inputs), torch.device("cpu") if as_array else None, widen=as_array)
        request = with_held(self, request)
        run(self, request, partial(_vectors, width=width, normalise=normalise), matrix)
        if matrix.values is None:  # no inputs
            return torch.tensor(
                [], dtype=torch.float64 if as_array else torch.float32, device=None if as_array else self.device
            )
        return matrix.values

    def _encode_features(self, request: Request, output_value: str | None) -> list[Any]:
        """Token embeddings, or all features, of every input."""
        rows = Rows(len(request.inputs))
        if output_value == "token_embeddings":
            run(self, request, _token_rows, rows)
        elif output_value is None:
            run(PaddedInputs(self), request, feature_rows, rows)
        else:
            raise ValueError(
                f"output_value must be 'sentence_embedding', 'token_embeddings' or None; got {output_value!r}."
            )
        return rows.values

    def _quantize(self, matrix: Tensor, precision: Any, single: bool) -> np.ndarray[Any, Any]:
        if single and precision in ("int8", "uint8"):
            raise ValueError(
                f"Cannot compute {precision} quantization ranges from a single embedding: encode a list of at least "
                "two inputs, or call quantize_embeddings with ranges or calibration_embeddings."
            )
        return np.asarray(quantize_embeddings(matrix.cpu().float().numpy(), precision=precision))

    # --- properties --------------------------------------------------------------------------------------------------

    def get_embedding_dimension(self) -> int | None:
        """D, the width of the vectors, after ``truncate_dim``; None where no module knows it."""
        width = super().get_embedding_dimension()
        return width if width is None or self.truncate_dim is None else min(width, self.truncate_dim)

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Within the ``with`` block, ``encode`` keeps only the first ``truncate_dim`` dimensions."""
        before = self.truncate_dim
        self.truncate_dim = truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    def truncate_sentence_embeddings(self, truncate_dim: int | None) -> Any:
        """The old name of ``truncate_embeddings``."""
        warnings.warn("truncate_sentence_embeddings is now truncate_embeddings.", FutureWarning, stacklevel=2)
        return self.truncate_embeddings(truncate_dim)

    @staticmethod
    def load(input_path: str) -> SentenceTransformer:
        """The old form of ``SentenceTransformer(input_path)``."""
        warnings.warn(
            "SentenceTransformer.load(path) is now SentenceTransformer(path).", DeprecationWarning, stacklevel=2
        )
        return SentenceTransformer(input_path)


def _vectors(features: Features, width: int | None, normalise: bool) -> Tensor:
    """(B, D) of a batch."""
    vectors: Tensor = features["sentence_embedding"][..., :width]
    return F.normalize(vectors, dim=-1) if normalise else vectors


def _token_rows(features: Features) -> list[Tensor]:
    """(T_i, D) token embeddings of every input; padding on the right is cut off."""
    values = features["token_embeddings"]
    rows = values.rows() if isinstance(values, Packed) else _unpadded(values, features.get("attention_mask"))
    with torch.inference_mode(False):  # ordinary tensors: the caller may use them with gradients
        return [row.clone() for row in rows]


def _unpadded(values: Tensor, mask: Tensor | None) -> list[Tensor]:
    if mask is None:
        return list(values)
    width = mask.shape[1]
    lengths = (width - mask.flip(1).int().argmax(1)).tolist()
    return [row[:length] for row, length in zip(values, lengths, strict=True)]
