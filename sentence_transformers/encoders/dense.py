"""SentenceTransformer: one dense vector for every input."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sentence_transformers._types import Features, OnTruncate, Precision
from sentence_transformers.cards.data import SentenceTransformerModelCardData
from sentence_transformers.encoders import calls
from sentence_transformers.encoders.encoder import Encoder
from sentence_transformers.encoders.signatures import arguments_and_those_of, same_arguments_as
from sentence_transformers.inference.collect import Matrix, Rows
from sentence_transformers.inference.run import Request, run
from sentence_transformers.modules.module import EachBatch
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.transformer import Transformer
from sentence_transformers.ops.quantize import PRECISIONS, quantize_embeddings
from sentence_transformers.ops.similarity import SimilarityFunction
from sentence_transformers.ops.tokens import Packed

logger = logging.getLogger(__name__)

DENSE_SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
# how modules say how wide their output is; the others are names of before version 5.4
WIDTH_METHODS = ("get_embedding_dimension", "get_sentence_embedding_dimension", "get_word_embedding_dimension")
DOCUMENT_PROMPTS = ("document", "passage", "corpus")


class SentenceTransformer(Encoder):
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
    _default_prompts: ClassVar[dict[str, str | None]] = {"query": None, "document": None}
    model_card_data_class: ClassVar[Any] = SentenceTransformerModelCardData
    _model_card_model_id_placeholder: ClassVar[str] = "sentence_transformers_model_id"

    @arguments_and_those_of(Encoder.__init__)
    def __init__(
        self,
        model_name_or_path: str | None = None,
        *,
        similarity_fn_name: str | SimilarityFunction | None = None,
        truncate_dim: int | None = None,
        tokenizer_kwargs: dict[str, Any] | None = None,
        use_auth_token: bool | str | None = None,
        **kwargs: Any,
    ) -> None:
        self._similarity_fn_name: str | None = None
        self._similarity: Callable[..., Tensor] | None = None
        self._similarity_pairwise: Callable[..., Tensor] | None = None
        if tokenizer_kwargs is not None:
            warnings.warn("tokenizer_kwargs is now processor_kwargs.", FutureWarning, stacklevel=2)
            kwargs.setdefault("processor_kwargs", tokenizer_kwargs)
        if use_auth_token is not None:
            warnings.warn("use_auth_token is now token.", FutureWarning, stacklevel=2)
            if kwargs.get("token") is not None:
                raise ValueError("token and use_auth_token are the same argument: pass only token.")
            kwargs["token"] = use_auth_token
        self.truncate_dim = truncate_dim
        self._saved_similarity: str | None = None
        super().__init__(model_name_or_path, **kwargs)
        chosen = similarity_fn_name or self._saved_similarity
        if chosen is not None:
            self.similarity_fn_name = chosen

    def default_modules(self, folder: Path, settings: dict[str, Any]) -> list[nn.Module]:
        """A bare transformer gets a pooling: the last token for causal language models, else the mean."""
        given = dict(settings)  # what another family saved of its transformer, such as its task, does not count here
        trust = given.pop("trust_remote_code")
        given["model_kwargs"] = {**(given["model_kwargs"] or {}), "trust_remote_code": trust}
        transformer = Transformer(str(folder), **given)
        config = transformer.pretrained.config
        architecture = (config.get("architectures") or [""])[0]
        causal = architecture.endswith("ForCausalLM") and config.get("is_causal", True)
        return [transformer, Pooling(transformer.get_embedding_dimension(), "lasttoken" if causal else "mean")]

    def _take_config(self, config: dict[str, Any]) -> None:
        super()._take_config(config)
        if self.truncate_dim is None:
            self.truncate_dim = config.get("truncate_dim")
        saved = config.get("similarity_fn_name")
        self._saved_similarity = saved if saved in DENSE_SIMILARITIES else None

    def _config_to_save(self) -> dict[str, Any]:
        config = {**super()._config_to_save(), "similarity_fn_name": self.similarity_fn_name}
        return config if self.truncate_dim is None else {**config, "truncate_dim": self.truncate_dim}

    # --- encoding ----------------------------------------------------------------------------------------------------

    def encode(
        self,
        inputs: Any = None,
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
        if "sentences" in kwargs:
            warnings.warn("encode(sentences=...) is now inputs=...", FutureWarning, stacklevel=2)
            old = kwargs.pop("sentences")
            inputs = old if inputs is None else inputs
        if precision is not None and precision not in PRECISIONS:
            raise ValueError(f"Precision {precision!r} is not supported, must be one of {PRECISIONS}.")
        if pool is not None:
            raise NotImplementedError("encode(pool=...) is not part of this version yet; leave it out to encode here.")
        self._move_to(device)
        if self.training:
            self.eval()
        request, single = calls.request(
            inputs,
            prompts=self.prompts,
            default_prompt_name=self.default_prompt_name,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            on_truncate=on_truncate,
            kwargs=kwargs,
            allowed=self.get_model_kwargs(),
            caller="SentenceTransformer.encode()",
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

    @same_arguments_as(encode)
    def encode_query(
        self, inputs: Any = None, prompt_name: str | None = None, prompt: str | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """``encode`` for the short side of a search: the prompt "query" unless another is given, and task "query"."""
        if prompt_name is None and prompt is None and "query" in self.prompts:
            prompt_name = "query"
        return self.encode(inputs, prompt_name, prompt, *args, **{"task": "query", **kwargs})

    @same_arguments_as(encode)
    def encode_document(
        self, inputs: Any = None, prompt_name: str | None = None, prompt: str | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """``encode`` for what is searched: the prompt "document", "passage" or "corpus", and task "document".

        The first of the three names that has a text wins; a name without one counts only if no other is there.
        """
        if prompt_name is None and prompt is None:
            present = [name for name in DOCUMENT_PROMPTS if name in self.prompts]
            prompt_name = next((name for name in present if self.prompts[name]), present[0] if present else None)
        return self.encode(inputs, prompt_name, prompt, *args, **{"task": "document", **kwargs})

    def _encode_matrix(self, request: Request, width: int | None, normalise: bool, as_array: bool) -> Tensor:
        """(n, D) float tensor; on the CPU if it is to become an array."""

        def finish(features: Features) -> Tensor:
            vectors: Tensor = features["sentence_embedding"][..., :width]
            return F.normalize(vectors, dim=-1) if normalise else vectors

        matrix = Matrix(len(request.inputs), torch.device("cpu") if as_array else None, widen=as_array)
        run(self, request, finish, matrix)
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
            run(PaddedInputs(self), request, _feature_rows, rows)
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

    # --- similarity --------------------------------------------------------------------------------------------------

    @property
    def similarity_fn_name(self) -> str:
        """How ``similarity`` compares: "cosine", "dot", "euclidean" or "manhattan"; "cosine" until set."""
        if self._similarity_fn_name is None:
            self.similarity_fn_name = SimilarityFunction.COSINE
        assert self._similarity_fn_name is not None
        return self._similarity_fn_name

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str | SimilarityFunction | None) -> None:
        value = "cosine" if value is None else value
        name = value.value if isinstance(value, SimilarityFunction) else value
        if name not in DENSE_SIMILARITIES:
            hint = " Late-interaction scores belong to MultiVectorEncoder." if "maxsim" in str(name) else ""
            raise ValueError(f"similarity_fn_name must be one of {DENSE_SIMILARITIES}; got {value!r}.{hint}")
        self._similarity_fn_name = name
        self._similarity = SimilarityFunction.to_similarity_fn(name)
        self._similarity_pairwise = SimilarityFunction.to_similarity_pairwise_fn(name)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Compare every vector of one set with every vector of another: (n, D), (m, D) -> (n, m); higher is closer."""
        _ = self.similarity_fn_name
        assert self._similarity is not None
        return self._similarity(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Compare vectors one to one: (n, D), (n, D) -> (n,); higher is closer."""
        _ = self.similarity_fn_name
        assert self._similarity_pairwise is not None
        return self._similarity_pairwise(embeddings1, embeddings2)

    # --- properties --------------------------------------------------------------------------------------------------

    def get_embedding_dimension(self) -> int | None:
        """D, the width of the vectors, after ``truncate_dim``; None where no module knows it."""
        for module in reversed(list(self)):
            ask = next((method for name in WIDTH_METHODS if (method := getattr(module, name, None)) is not None), None)
            width: int | None = None if ask is None else ask()
            if width is not None:
                return width if self.truncate_dim is None else min(width, self.truncate_dim)
        return None

    def get_sentence_embedding_dimension(self) -> int | None:
        """The old name of ``get_embedding_dimension``."""
        warnings.warn("get_sentence_embedding_dimension is now get_embedding_dimension.", FutureWarning, stacklevel=2)
        return self.get_embedding_dimension()

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

    def set_pooling_include_prompt(self, include_prompt: bool) -> None:
        """Whether the prompt's tokens count in the first ``Pooling`` module."""
        for module in self:
            if isinstance(module, Pooling):
                module.include_prompt = include_prompt
                return

    @staticmethod
    def load(input_path: str) -> SentenceTransformer:
        """The old form of ``SentenceTransformer(input_path)``."""
        warnings.warn(
            "SentenceTransformer.load(path) is now SentenceTransformer(path).", DeprecationWarning, stacklevel=2
        )
        return SentenceTransformer(input_path)


class PaddedInputs:
    """A model whose inputs are preprocessed batch by batch to the padded features dict, for ``output_value=None``."""

    def __init__(self, model: SentenceTransformer) -> None:
        self.model = model
        self.device = model.device

    def __iter__(self) -> Iterator[Any]:
        return iter([nn.Identity()])  # says nothing of threads: batches run one by one

    def __call__(self, features: Features, **kwargs: Any) -> Features:
        return dict(self.model(features, **kwargs))

    def prepare(self, inputs: Sequence[Any], prompt: str | None, **kwargs: Any) -> Any:
        return EachBatch(self.model[0], inputs, prompt, kwargs)


def _token_rows(features: Features) -> list[Tensor]:
    """(T_i, D) token embeddings of every input; padding on the right is cut off."""
    values = features["token_embeddings"]
    if isinstance(values, Packed):
        return [row.clone() for row in values.rows()]
    mask = features.get("attention_mask")
    if mask is None:
        return [row.clone() for row in values]
    width = mask.shape[1]
    lengths = (width - mask.flip(1).int().argmax(1)).tolist()
    return [row[:length].clone() for row, length in zip(values, lengths, strict=True)]


def _feature_rows(features: Features) -> list[dict[str, Any]]:
    """Every feature of every input: tensors that have a row per input are taken apart, the rest is repeated."""
    count = len(features["sentence_embedding"])
    return [
        {
            key: value[i].clone() if isinstance(value, Tensor) and value.ndim and len(value) == count else value
            for key, value in features.items()
        }
        for i in range(count)
    ]
